"""Images this host has seen, each once: ``<instances>/_base/<image id>``.

A file gets its name only when its SHA-512 and format have been checked and its bytes have been synced, so a file that
is there is right. It is a clone (reflink) of the image store's file where the file system can, else a sparse copy;
never a hard link, because libvirt changes the owner of what guests use, and the store's file is not ours to change.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from nova_fast.compute.drivers.libvirt.domain_xml import identifier
from nova_fast.compute.drivers.libvirt.file_access import FileAccess, disk_errors
from nova_fast.compute.drivers.libvirt.image_format import HEAD_BYTES, check_head, virtual_size_from_info
from nova_fast.compute.drivers.libvirt.tools import Limits, run_tool
from nova_fast.model.errors import InternalError, NotFound
from nova_fast.model.tasks import GuestImage

_FICLONE = 0x40049409  # ioctl: let a file share another's blocks
_CHUNK_BYTES = 1 << 20
_ZEROS = bytes(_CHUNK_BYTES)


class CachedImage(msgspec.Struct, frozen=True, kw_only=True):
    """A checked image on this host."""

    path: str
    format: str  # raw, qcow2
    is_iso: bool
    virtual_size: int  # bytes


#: Runs a blocking function on a worker thread.
RunBlocking = Callable[[Callable[[], CachedImage]], Awaitable[CachedImage]]


class ImageCache:
    """The folder of checked images."""

    def __init__(self, folder: Path, access: FileAccess, run_blocking: RunBlocking) -> None:
        self._folder = folder
        self._access = access
        self._run_blocking = run_blocking
        self._known: dict[str, CachedImage] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

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
        identifier(image.id, "image_id")
        async with self._locks[image.id]:
            known = self._known.get(image.id)
            if known is None or not os.path.exists(known.path):
                known = await self._run_blocking(lambda: self._fill(image))
                self._known[image.id] = known
        return known

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
            _sync_folder(self._folder)
        finally:
            partial.unlink(missing_ok=True)


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


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
