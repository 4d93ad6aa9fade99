"""The bytes of images, one file for each, named by the image's id.

An upload goes to a temporary file beside the others, is hashed as it arrives, checked, synced, and only then renamed to
its place; the folder is synced too. The record becomes active after that, so an active image always has its bytes.

Who uploads holds a lock on the file until the record says so. A lock ends with its process: what is not locked was
left by a crash: the next upload of that image takes it over, and :meth:`ImageStore.sweep` removes it at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Collection
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from nova_fast.files import sync_folder
from nova_fast.image import inspect
from nova_fast.model.errors import Conflict, NotFound, NovaFastError, TooLarge, Unavailable

T = TypeVar("T")

_PREFIX = ".upload-"
#: PERF: hashing and writing happen in a thread, in pieces so large that the hand-over is noise.
_PIECE_BYTES = 4 << 20
_READ_BYTES = 1 << 20
#: A file that got its name so recently may belong to a record that the sweeper's snapshot does not have yet.
_YOUNG_S = 10.0
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Received(msgspec.Struct, frozen=True):
    """What has arrived, and is durable."""

    size: int  # bytes
    virtual_size: int  # bytes
    checksum: str  # MD5, hex
    hash_value: str  # SHA-512, hex


def stored_bytes(folder: Path, image_id: str) -> int | None:
    """How many bytes of an image are there; None when there are none."""
    try:
        return (folder / image_id).stat().st_size
    except OSError:
        return None


class ImageStore:
    """A folder of images, for any number of processes of one machine."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)

    def path(self, image_id: str) -> Path:
        """Where the bytes of an image are. Raises NotFound for an id that is no UUID."""
        try:
            name = str(uuid.UUID(image_id))
        except ValueError:
            raise NotFound(f"No image found with ID {image_id}", code="image_not_found") from None
        return self._folder / name

    def upload(self, image_id: str) -> Upload:
        """Begin the only upload of an image; use it as an asynchronous context manager.

        Raises Conflict while another process or request uploads the same image, Unavailable when the disk is full.
        """
        final = self.path(image_id)
        try:
            return Upload(_lock(self._folder / f"{_PREFIX}{final.name}", final), final, self._max_bytes)
        except OSError as error:
            raise storage_error(error) from error

    async def read(self, image_id: str, begin: int, length: int) -> AsyncIterator[bytes]:
        """``length`` bytes from ``begin`` on. The file is opened at once, so a later delete does not disturb.

        Raises NotFound when there are no bytes.
        """
        try:
            file = await asyncio.to_thread(open, self.path(image_id), "rb", 0)
        except FileNotFoundError:
            raise NotFound(f"Image {image_id} has no data.", code="image_data_missing") from None
        assert isinstance(file, FileIO)
        return _pieces(file, begin, length)

    def remove(self, image_id: str) -> None:
        """Delete the bytes of an image; none is no error."""
        self.path(image_id).unlink(missing_ok=True)

    def sweep(self, known: Collection[str]) -> list[str]:
        """Delete what no record knows and what unfinished uploads left; returns the names.

        Uploads that are under way, and files that got their name just now, are left alone.
        """
        gone = []
        for entry in os.scandir(self._folder):
            unfinished = entry.name.startswith(_PREFIX)
            if not entry.is_file(follow_symlinks=False) or not (unfinished or _is_uuid(entry.name)):
                continue
            young = time.time() - entry.stat(follow_symlinks=False).st_ctime < _YOUNG_S
            if entry.name in known or (young and not unfinished):
                continue
            if _unlink_unlocked(entry.path):
                gone.append(entry.name)
        return sorted(gone)


class Upload:
    """One upload: holds the lock of its image until it is left."""

    def __init__(self, descriptor: int, final: Path, max_bytes: int) -> None:
        self._descriptor = descriptor
        self._final = final
        self._temporary = final.parent / f"{_PREFIX}{final.name}"
        self._max_bytes = max_bytes
        self._size = 0
        self._named = False
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha512 = hashlib.sha512()

    async def __aenter__(self) -> Upload:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await _in_thread(self._leave)

    async def receive(self, chunks: AsyncIterator[bytes], disk_format: str) -> Received:
        """Take the bytes; afterwards they are durable under the image's id.

        Raises TooLarge, BadRequest (not what ``disk_format`` says, or cut short), Unavailable (the disk is full);
        whatever it raises, nothing is left.
        """
        try:
            await self._write(chunks)
            return await _in_thread(self._finish, disk_format)
        except OSError as error:
            raise storage_error(error) from error

    async def _write(self, chunks: AsyncIterator[bytes]) -> None:
        """Read the next piece while a thread hashes and writes the last one."""
        waiting: list[bytes] = []
        waiting_bytes = total = 0
        writing: asyncio.Task[None] | None = None
        try:
            async for chunk in chunks:
                total += len(chunk)
                if total > self._max_bytes:
                    raise TooLarge(
                        f"The image is larger than {self._max_bytes} bytes, the most this cloud takes.",
                        code="image_too_large",
                    )
                waiting.append(bytes(chunk))
                waiting_bytes += len(chunk)
                if waiting_bytes >= _PIECE_BYTES:
                    if writing is not None:
                        await writing
                    writing = asyncio.create_task(_in_thread(self._append, waiting))
                    waiting, waiting_bytes = [], 0
        finally:
            if writing is not None:
                await asyncio.wait([writing])
                writing.exception()  # seen here; raised below, unless something else is being raised already
        if writing is not None:
            writing.result()
        await _in_thread(self._append, waiting)

    # ------------------------------------------------------------------ blocking, in threads
    def _append(self, pieces: list[bytes]) -> None:
        data = b"".join(pieces)
        self._md5.update(data)
        self._sha512.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._size += len(data)

    def _finish(self, disk_format: str) -> Received:
        """Check the content, make it durable, and give it its name."""
        found = inspect.check(lambda at, length: os.pread(self._descriptor, length, at), self._size, disk_format)
        os.fsync(self._descriptor)
        os.rename(self._temporary, self._final)
        self._named = True
        sync_folder(self._final.parent)
        return Received(
            size=self._size,
            virtual_size=found.virtual_size,
            checksum=self._md5.hexdigest(),
            hash_value=self._sha512.hexdigest(),
        )

    def _leave(self) -> None:
        # SAFETY: unlink before the lock goes, or it could be the next upload's file.
        if not self._named:
            self._temporary.unlink(missing_ok=True)
        os.close(self._descriptor)


def storage_error(error: OSError) -> NovaFastError:
    """What a person is told when the disk refuses."""
    if error.errno in _DISK_FULL:
        return Unavailable(
            "There is not enough space for the image on the disk of the image store.",
            code="image_store_full",
            hint="Delete images that are no longer needed, or ask the operator for more space.",
        )
    return Unavailable(f"The image store cannot write: {error.strerror}.", code="image_store_failed")


async def _in_thread(function: Callable[..., T], *arguments: object) -> T:
    """Run in a thread, to its end even when the caller is cancelled.

    SAFETY: a file must not be closed under a thread that still writes it: its number may be another file's by then.
    """
    work = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


async def _pieces(file: FileIO, begin: int, length: int) -> AsyncIterator[bytes]:
    with file:
        at, left = begin, length
        while left > 0:
            piece = await _in_thread(os.pread, file.fileno(), min(left, _READ_BYTES), at)
            if not piece:
                raise EOFError("an image file is shorter than its record says")
            at += len(piece)
            left -= len(piece)
            yield piece


def _lock(temporary: Path, final: Path) -> int:
    """An empty, locked temporary file. Raises Conflict when it, or the file it will become, is locked."""
    if final.exists() and not _is_unlocked(final):
        raise _being_uploaded(final.name)
    while True:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(temporary, descriptor):
                os.ftruncate(descriptor, 0)
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise _being_uploaded(final.name) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # removed or renamed before the lock was ours: begin again


def _is_still(path: Path, descriptor: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    return False


def _is_unlocked(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _unlink_unlocked(path: str) -> bool:
    """Delete a file unless somebody holds its lock; says whether it is gone."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        os.unlink(path)
    return True


def _is_uuid(name: str) -> bool:
    with contextlib.suppress(ValueError):
        return str(uuid.UUID(name)) == name
    return False


def _being_uploaded(image_id: str) -> Conflict:
    return Conflict(f"Image {image_id} is being uploaded already.", code="image_not_queued")
