"""The file: an LMDB environment that one process writes and any number read.

Durability: every commit is synced (no NOSYNC, no WRITEMAP), and the file is made long enough, durably, before a commit
needs it (``datafile.py``). A new store is made beside its place and moved there whole, so a power cut leaves none that
is half made. Readers never block the writer; a reader that dies is cleared by ``reader_check``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb

from nova_fast.state import schema
from nova_fast.state.datafile import NAME, DataFile, reserve_lock_file, sync_folder, unavailable
from nova_fast.state.reader import Reader
from nova_fast.state.transaction import Entropy, Transaction, WriteFailed

MAP_BYTES = 1 << 40  # address space, not disk
READERS_MAX = 512
_SCHEMA_KEY = b"schema_version"


class Snapshot(Reader):
    """One consistent state of the past moment. Never hold it across an await: it keeps old pages from being reused."""

    def forget(self) -> None:
        """Let go of the transaction, so that whoever still has the snapshot can neither use it nor keep its slot.

        SAFETY: a coroutine keeps its variables while it waits, ``with … as snapshot`` among them; LMDB gives a reader's
        slot back only when nothing refers to the transaction, and there are READERS_MAX slots for all processes.
        """
        self._cursors.clear()
        del self._txn


class StoreError(Exception):
    """The store cannot be opened or trusted any more; the message says why and what to do."""


class Store:
    """An open store. Make one per process with :meth:`open`."""

    def __init__(self, path: Path, environment: lmdb.Environment, databases: dict[str, Any], lock: int | None) -> None:
        self.path = path
        self._environment = environment
        self._databases = databases
        self._lock = lock
        self._file = None if lock is None else DataFile(path, int(environment.stat()["psize"]))

    @classmethod
    def open(cls, path: Path, *, readonly: bool = False) -> Store:
        """Open (and, when writing, make) the store in a folder.

        Raises StoreError when another process writes it, when it is not there to be read, or when a newer release
        wrote it.
        """
        lock = None if readonly else _lock_writer(path)
        with contextlib.ExitStack() as undo:
            if lock is not None:
                undo.callback(os.close, lock)
            if lock is not None:
                _found(path)
                _reserve(path)
            environment = _environment(path, readonly=readonly)
            undo.callback(environment.close)
            try:
                databases = _open_databases(environment, create=not readonly)
                store = cls(path, environment, databases, lock)
                _check_schema(path, environment, databases["meta"], readonly=readonly)
                environment.reader_check()
            except (lmdb.Error, OSError) as e:
                raise StoreError(f"the store in {path} is not complete: {e}") from e
            undo.pop_all()
        return store

    def close(self) -> None:
        """Close the environment and give up the writer's lock."""
        self._environment.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """A read-only view of the last commit."""
        with self._environment.begin(write=False) as txn:
            snapshot = Snapshot(txn, self._databases)
            try:
                yield snapshot
            finally:
                snapshot.forget()

    @contextlib.contextmanager
    def transaction(
        self, now_us: int, entropy: Entropy = os.urandom, *, steady_us: int | None = None
    ) -> Iterator[Transaction]:
        """A write transaction: durable when the block ends, gone when it raises.

        ``now_us`` is the wall clock, ``steady_us`` steady time (``None``: the same).

        Raises Unavailable when the disk cannot take it; then nothing has changed. Raises StoreError when it cannot be
        known whether it would survive a power cut: then the process must end, and begin again from what is there.
        """
        assert self._file is not None, "this store was opened for reading"
        try:
            txn = self._begin()
            try:
                times_us = (now_us, now_us if steady_us is None else steady_us)
                tx = Transaction(txn, self._databases, times_us, entropy)
                yield tx
                tx.keep_time()
                self._make_room(tx)
            except BaseException:
                txn.abort()
                raise
            try:
                txn.commit()
            except lmdb.Error:
                self._begin().abort()  # raises StoreError when LMDB itself does not know what is on the disk
                raise
        except lmdb.Error as e:
            raise unavailable(getattr(e, "code", 0), self.path) from e
        except WriteFailed as e:
            raise unavailable(e.number, self.path) from e
        try:
            self._sync_growth()
        except OSError as e:
            raise StoreError(f"the store in {self.path} grew, but the disk did not confirm it: {e}") from e

    def reader_check(self) -> int:
        """Clear the slots of readers that died; returns how many."""
        return int(self._environment.reader_check())

    def _begin(self) -> lmdb.Transaction:
        try:
            return self._environment.begin(write=True)
        except lmdb.PanicError as e:
            raise StoreError(f"the store in {self.path} failed while a commit was written: {e}") from e

    def _make_room(self, tx: Transaction) -> None:
        assert self._file is not None
        self._file.make_room(int(self._environment.info()["last_pgno"]) + 1, tx.writes, tx.written_bytes)

    def _sync_growth(self) -> None:
        assert self._file is not None
        self._file.sync_growth()


def _found(path: Path) -> None:
    """Make a new store, unless there is one. Raises StoreError."""
    if (path / NAME).exists():
        return
    new = path / "new"
    try:
        shutil.rmtree(new, ignore_errors=True)  # of a founding that was cut off
        new.mkdir(mode=0o700)
        environment = _environment(new, sync=False)
        try:
            databases = _open_databases(environment, create=True)
            _check_schema(new, environment, databases["meta"], readonly=False)
        finally:
            environment.close()
        DataFile(new, 1)  # one sync for all, and for the length
        os.rename(new / NAME, path / NAME)
        sync_folder(path)
        sync_folder(path.parent)
        shutil.rmtree(new, ignore_errors=True)
    except (lmdb.Error, OSError) as e:
        raise StoreError(f"cannot make a store in {path}: {e}") from e


def _reserve(path: Path) -> None:
    try:
        reserve_lock_file(path, READERS_MAX)
    except OSError as e:
        raise StoreError(f"cannot open the store in {path}: {e}") from e


def _environment(path: Path, *, readonly: bool = False, sync: bool = True) -> lmdb.Environment:
    try:
        return lmdb.open(
            str(path), map_size=MAP_BYTES, max_dbs=256, max_readers=READERS_MAX, readonly=readonly,
            create=not readonly, subdir=True, lock=True, metasync=sync, sync=sync, readahead=False, mode=0o600,
        )  # fmt: skip
    except lmdb.Error as e:
        raise StoreError(f"cannot open the store in {path}: {e}") from e


def _check_schema(path: Path, environment: lmdb.Environment, meta: Any, *, readonly: bool) -> None:
    with environment.begin(write=not readonly) as txn:
        raw = txn.get(_SCHEMA_KEY, db=meta)
        if raw is None and not readonly:
            txn.put(_SCHEMA_KEY, str(schema.SCHEMA_VERSION).encode(), db=meta)
        elif raw is None:
            raise StoreError(f"the store in {path} is being made")
        elif int(raw) > schema.SCHEMA_VERSION:
            raise StoreError(f"the store in {path} was written by a newer release (schema {int(raw)})")


def _open_databases(environment: lmdb.Environment, *, create: bool) -> dict[str, Any]:
    """Every table and index, by name.

    PERF: made in one transaction, so a new store costs one sync and not one for each of them.
    """
    if not create:
        return {name: environment.open_db(name.encode(), create=False) for name in _database_names()}
    with environment.begin(write=True) as txn:
        return {name: environment.open_db(name.encode(), txn=txn) for name in _database_names()}


def _database_names() -> list[str]:
    names = ["meta"]
    for table in schema.TABLES:
        names.append(table.name)
        names.extend(index.name for index in table.indexes)
    assert len(names) == len(set(names)), "two tables or indexes share a name"
    return names


def _lock_writer(path: Path) -> int:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path / "writer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        os.close(descriptor)
        raise StoreError(f"another process writes the store in {path}") from e
    return descriptor
