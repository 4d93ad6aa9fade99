"""The data file as a file: how long it is, also after a power cut, and what a person is told when it fails.

LMDB syncs with fdatasync, which may leave out the new length of a file that has grown. After a power cut its newest
meta page would then point behind the end of the file, and whoever reads there is ended by SIGBUS. So the file is made
long enough first, durably (ftruncate and fsync), and LMDB writes into a length that is certain. The file is sparse:
what has not been written takes no disk.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from nova_fast.model.errors import Unavailable
from nova_fast.state.transaction import WriteFailed

NAME = "data.mdb"
GROWTH_BYTES = 16 << 20  # so much more than is needed, so that it is seldom
_PAGES_OF_A_WRITE = 8  # a path of four pages, each of them split
_READER_BYTES = 64
_FULL_BYTES = 1 << 20  # less is free on a full disk; LMDB writes at most 64 pages at once
_PAGES_BESIDE = 64  # for LMDB's own lists

_UNTIL = "nothing can be changed until"
_SENTENCES = {
    errno.ENOSPC: f"The disk of the state folder is full: {_UNTIL} there is space again.",
    errno.EDQUOT: f"The disk quota of the state folder is used up: {_UNTIL} there is space again.",
    errno.EFBIG: f"The store has reached the largest size a file may have: {_UNTIL} it may be larger.",
    errno.EROFS: f"The disk of the state folder is read-only: {_UNTIL} it can be written again.",
    errno.EIO: f"The disk of the state folder reports errors: {_UNTIL} it works again.",
    errno.EMFILE: f"The conductor has no file descriptors left: {_UNTIL} some are free again.",
    errno.ENFILE: f"The machine has no file descriptors left: {_UNTIL} some are free again.",
}


def unavailable(number: int, folder: Path) -> Unavailable:
    """What everybody is told when the state cannot be written: why, but no path of the machine.

    LMDB calls it an I/O error when only a part of a write was taken, which is how a disk becomes full.
    """
    if number == errno.EIO and _is_full(folder):
        number = errno.ENOSPC
    sentence = _SENTENCES.get(number, "The state cannot be written now.")
    return Unavailable(sentence, code="store_write_failed", hint="try again later")


def _is_full(folder: Path) -> bool:
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _FULL_BYTES


class DataFile:
    """The length of one store's data file; only for its writer."""

    def __init__(self, folder: Path, page_bytes: int) -> None:
        self._path = folder / NAME
        self._page_bytes = page_bytes
        self._room_bytes = 0  # how long it certainly is, even after a power cut
        self.sync()

    def make_room(self, used_pages: int, writes: int, data_bytes: int) -> None:
        """Let the file be as long as a transaction may need. Raises WriteFailed.

        A write changes at most the path to its page and splits each page of it; and all writes together change each
        page that is there at most once, besides those they add. The smaller of the two bounds counts.
        """
        pages = min(writes * _PAGES_OF_A_WRITE, used_pages + 2 * writes) + 2 * (data_bytes // self._page_bytes)
        needed = (used_pages + pages + pages // 64 + _PAGES_BESIDE) * self._page_bytes
        if needed <= self._room_bytes:
            return
        try:
            self._lengthen(needed + GROWTH_BYTES)
        except OSError as error:
            raise WriteFailed(str(error), error.errno or 0) from error

    def sync_growth(self) -> None:
        """Sync the length if it has grown all the same. Raises OSError."""
        if self._path.stat().st_size > self._room_bytes:
            self.sync()

    def sync(self) -> None:
        """Make content and length durable. Raises OSError."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._sync(descriptor)
        finally:
            os.close(descriptor)

    def _lengthen(self, size: int) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_size < size:
                os.ftruncate(descriptor, size)
            self._sync(descriptor)
        finally:
            os.close(descriptor)

    def _sync(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        os.fsync(descriptor)
        self._room_bytes = size


def reserve_lock_file(folder: Path, readers_max: int) -> None:
    """Give LMDB's table of readers its blocks: it is a mapping, and on a full disk its first use would be a SIGBUS.

    SAFETY: before LMDB opens it in this process, because closing a file lets go of the process's locks on it.
    """
    descriptor = os.open(folder / "lock.mdb", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, (readers_max + 2) * _READER_BYTES)
    finally:
        os.close(descriptor)
