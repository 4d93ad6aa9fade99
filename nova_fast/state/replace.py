"""Putting another store in the place of the one that is there: one rename, and nothing that was there is lost.

    store/data.mdb                  the store
    store.restoring/new/data.mdb    the one that is to take its place, while it is checked
    store.restoring/data.mdb        a second name of the old one, so that it stays when the new one takes the first
    store.before-<time>/data.mdb    the old one, at the end

Whoever is killed in between leaves the old store or the new one in place, whole; the next one tidies up by looking
whether the old one's second name is still a second name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from nova_fast.files import sync_folder
from nova_fast.state.store import StoreError, lock_out_users, lock_writer

_DATA = "data.mdb"


class NotConfirmed(StoreError):
    """The store was replaced, and something went wrong behind that."""


class Replacement:
    """A place for a new store beside the one at ``path``; made by :func:`replacement`."""

    def __init__(self, path: Path, stamp: str) -> None:
        self._path = path
        self._stamp = stamp
        self._work = path.with_name(f"{path.name}.restoring")
        self.folder = self._work / "new"

    def tidy(self) -> Path | None:
        """Clear away what a killed predecessor left; the folder of the old store, if that had been replaced."""
        shutil.rmtree(self.folder, ignore_errors=True)
        kept = None
        if _inode(self._work / _DATA) not in (None, _inode(self._path / _DATA)):
            kept = self._keep()
        shutil.rmtree(self._work, ignore_errors=True)
        return kept

    def swap(self) -> Path | None:
        """Put the new store in place, durably; where the old one is now, if there was one."""
        there = (self._path / _DATA).exists()
        if there:
            os.link(self._path / _DATA, self._work / _DATA)
            sync_folder(self._work)
        _sync_file(self.folder / _DATA)  # whoever checked it may have written to it
        (self._path / "lock.mdb").unlink(missing_ok=True)  # of readers of the old one; nobody has it open
        os.replace(self.folder / _DATA, self._path / _DATA)
        try:
            sync_folder(self._path)
            shutil.rmtree(self.folder)
            return self._keep() if there else None
        except OSError as e:
            raise NotConfirmed(f"the new store is in its place, but the disk did not confirm all of it: {e}") from e

    def _keep(self) -> Path:
        base = self._path.with_name(f"{self._path.name}.before-{self._stamp}")
        kept, number = base, 1
        while kept.exists():
            number += 1
            kept = base.with_name(f"{base.name}-{number}")
        os.rename(self._work, kept)
        sync_folder(self._path.parent)
        return kept


@contextlib.contextmanager
def replacement(path: Path, stamp: str) -> Iterator[Replacement]:
    """Lock everybody out of a store while another is made and put in its place; ``stamp`` is the time for names.

    Raises StoreError when somebody has it open. What is not swapped in leaves nothing behind.
    """
    with contextlib.ExitStack() as locks:
        locks.callback(os.close, lock_writer(path))
        locks.callback(os.close, lock_out_users(path))
        new = Replacement(path, stamp)
        new.tidy()
        try:
            yield new
        finally:
            new.tidy()


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
