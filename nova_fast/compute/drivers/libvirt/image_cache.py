"""Images this host has seen, each once: ``<instances>/_base/<image id>``.

A file gets its name only when its SHA-512 and format have been checked and its bytes have been synced, so a file that
is there is right. It is a clone (reflink) of the image store's file where the file system can, else a sparse copy;
never a hard link, because libvirt changes the owner of what guests use, and the store's file is not ours to change.

The time of a file's last change says when it was last asked for or seen in use; one that nobody has needed for long
enough goes (``remove_unused``).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

import msgspec

from nova_fast.compute.drivers.libvirt.domain_xml import identifier
from nova_fast.compute.drivers.libvirt.file_access import FileAccess, disk_errors, is_id
from nova_fast.compute.drivers.libvirt.image_format import HEAD_BYTES, check_head, virtual_size_from_info
from nova_fast.compute.drivers.libvirt.tools import Limits, run_tool
from nova_fast.files import sync_folder
from nova_fast.model.errors import InternalError, NotFound
from nova_fast.model.tasks import GuestImage

_log = logging.getLogger(__name__)

_T = TypeVar("_T")
_FICLONE = 0x40049409  # ioctl: let a file share another's blocks
_CHUNK_BYTES = 1 << 20
_ZEROS = bytes(_CHUNK_BYTES)


class CachedImage(msgspec.Struct, frozen=True, kw_only=True):
    """A checked image on this host."""

    path: str
    format: str  # raw, qcow2
    is_iso: bool
    virtual_size: int  # bytes


class RunBlocking(Protocol):
    """Runs a blocking function on a worker thread."""

    def __call__(self, blocking: Callable[[], _T], /) -> Awaitable[_T]:
        """What it returned, or raised."""


class ImageCache:
    """The folder of checked images."""

    def __init__(self, folder: Path, access: FileAccess, run_blocking: RunBlocking) -> None:
        self._folder = folder
        self._access = access
        self._run_blocking = run_blocking
        self._known: dict[str, CachedImage] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._holders: Counter[str] = Counter()  # who makes a guest from an image now
        self._needed: dict[str, int] = {}  # image id → the last of the numbers below at which somebody needed it
        self._number = 0

    def remove_partial(self) -> None:
        """Remove the copies under which an earlier process died. Blocks; only before the first ``get``."""
        with disk_errors("clean the image cache"):
            for partial in self._folder.glob(".*.partial"):
                partial.unlink()

    async def get(self, image: GuestImage) -> CachedImage:
        """The image, copied in and checked if this host had it not. One fill at a time for each image.

        Raises NotFound when the image store has no such file, BadRequest when it cannot be used, InternalError when
        its content is not what it was, Unavailable when the disk is full.
        """
        async with self.holding(image) as known:
            return known

    @contextlib.asynccontextmanager
    async def holding(self, image: GuestImage) -> AsyncIterator[CachedImage]:
        """The same, and the image stays until whoever asked has made a guest that names it. Raises the same."""
        identifier(image.id, "image_id")
        self._holders[image.id] += 1
        try:
            async with self._locks[image.id]:
                known = self._known.get(image.id)
                if known is None or not os.path.exists(known.path):
                    known = await self._run_blocking(lambda: self._fill(image))
                    self._known[image.id] = known
                _touch(known.path)
            yield known
        finally:
            self._holders[image.id] -= 1
            if not self._holders[image.id]:
                del self._holders[image.id]
            self._needed[image.id] = self._next_number()

    async def remove_unused(self, in_use: Callable[[], Awaitable[set[str] | None]], min_age_s: float) -> list[str]:
        """Remove the images that no guest has needed for so long; → their ids.

        ``in_use`` looks which images the guests of this host need; None when that cannot be said, and nothing goes.
        Whoever holds an image, or held it since before we looked, may have made a guest that was not seen.
        """
        began = self._next_number()
        used = await in_use()
        if used is None:
            _log.warning("images stay: a guest of this host does not say which image it needs")
            return []
        removed = []
        for image_id in await self._run_blocking(lambda: self._look(used, min_age_s)):
            async with self._locks[image_id]:
                if image_id in self._holders or self._needed.get(image_id, 0) > began:
                    continue
                self._known.pop(image_id, None)
                await self._run_blocking(partial(self._remove, image_id))
                removed.append(image_id)
                _log.info("image %s is used by no guest any more: removed from the cache", image_id)
        return removed

    def _remove(self, image_id: str) -> None:
        with disk_errors("remove an image from the cache"):
            (self._folder / image_id).unlink(missing_ok=True)

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _look(self, used: set[str], min_age_s: float) -> list[str]:
        """Note which images are in use; → those that nobody has needed for so long. Blocks."""
        old, now_s = [], time.time()
        with disk_errors("look through the image cache"):
            for entry in os.scandir(self._folder):
                if entry.name in used:
                    _touch(entry.path)
                elif is_id(entry.name) and now_s - entry.stat().st_mtime >= min_age_s:
                    old.append(entry.name)
        return sorted(old)

    def _fill(self, image: GuestImage) -> CachedImage:
        target = self._folder / image.id
        with disk_errors("fill the image cache"):
            if not target.exists():
                self._copy_in(image, target)
        file_format = "raw" if image.disk_format == "iso" else image.disk_format
        return CachedImage(
            path=str(target),
            format=file_format,
            is_iso=image.disk_format == "iso",
            virtual_size=_virtual_size(target, file_format),
        )

    def _copy_in(self, image: GuestImage, target: Path) -> None:
        partial = self._folder / f".{image.id}.{secrets.token_hex(4)}.partial"
        try:
            with _open_image(image) as source, open(partial, "xb") as copy:
                self._access.share_file(partial)
                head = source.read(HEAD_BYTES)
                check_head(head, image.disk_format)
                digest = _clone_or_copy(source, copy)
                copy.flush()
                os.fsync(copy.fileno())
            if digest != image.sha512.lower():
                raise InternalError(
                    f"Image {image.id} is not what it was when it was uploaded: its SHA-512 differs.",
                    code="image_damaged",
                    hint="Upload the image again.",
                )
            _virtual_size(partial, "raw" if image.disk_format == "iso" else image.disk_format)
            os.rename(partial, target)
            sync_folder(self._folder)
        finally:
            partial.unlink(missing_ok=True)


def _touch(path: str) -> None:
    """Note that a file is needed now; on a disk that cannot be written nothing is removed either."""
    with contextlib.suppress(OSError):
        os.utime(path)


def _open_image(image: GuestImage) -> BinaryIO:
    try:
        return open(image.path, "rb")
    except FileNotFoundError as e:
        raise NotFound(f"The file of image {image.id} is not in the image store.", field="imageRef") from e


def _virtual_size(path: Path, file_format: str) -> int:
    info = run_tool(["qemu-img", "info", "-f", file_format, "--output=json", str(path)], limits=Limits())
    return virtual_size_from_info(info, file_format)


def _clone_or_copy(source: BinaryIO, target: BinaryIO) -> str:
    """Make ``target`` the same as ``source``; → the SHA-512 of what was written, hex."""
    digest = hashlib.sha512()
    source.seek(0)
    try:
        fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
    except OSError:  # another file system, or one that cannot share blocks
        pass
    else:
        with open(target.name, "rb") as clone:
            while chunk := clone.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()
    while chunk := source.read(_CHUNK_BYTES):
        digest.update(chunk)
        if chunk == _ZEROS:
            target.seek(len(chunk), os.SEEK_CUR)  # a hole
        else:
            target.write(chunk)
    target.truncate(target.tell())
    return digest.hexdigest()
