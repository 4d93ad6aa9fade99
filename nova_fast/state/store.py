"""The file: an LMDB environment that one process writes and any number read.

Durability: every commit is synced (no NOSYNC, no WRITEMAP), and when the file has grown its metadata is synced as well,
because LMDB's fdatasync may miss it. Readers never block the writer; a reader that dies is cleared by ``reader_check``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb

from nova_fast.model.errors import Unavailable
from nova_fast.state import schema
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
        self._synced_bytes = 0

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
            try:
                environment = lmdb.open(
                    str(path), map_size=MAP_BYTES, max_dbs=256, max_readers=READERS_MAX, readonly=readonly,
                    create=not readonly, subdir=True, lock=True, metasync=True, sync=True, readahead=False, mode=0o600,
                )  # fmt: skip
            except lmdb.Error as e:
                raise StoreError(f"cannot open the store in {path}: {e}") from e
            undo.callback(environment.close)
            try:
                databases = _open_databases(environment, create=not readonly)
                store = cls(path, environment, databases, lock)
                store._check_schema(readonly)
                environment.reader_check()
            except lmdb.Error as e:
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

        Raises Unavailable when the disk cannot take it; then nothing has changed. Raises StoreError when it was
        committed but may not survive a power cut: then the process must end, and begin again from what is there.
        """
        try:
            txn = self._environment.begin(write=True)
            try:
                times_us = (now_us, now_us if steady_us is None else steady_us)
                transaction = Transaction(txn, self._databases, times_us, entropy)
                yield transaction
                transaction.keep_time()
            except BaseException:
                txn.abort()
                raise
            txn.commit()
        except (lmdb.Error, WriteFailed) as e:
            raise Unavailable(f"The state could not be written: {e}", code="store_write_failed") from e
        try:
            self._sync_growth()
        except OSError as e:
            raise StoreError(f"the store in {self.path} grew, but the disk did not confirm it: {e}") from e

    def reader_check(self) -> int:
        """Clear the slots of readers that died; returns how many."""
        return int(self._environment.reader_check())

    def _sync_growth(self) -> None:
        size = (self.path / "data.mdb").stat().st_size
        if size > self._synced_bytes:
            descriptor = os.open(self.path / "data.mdb", os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._synced_bytes = size

    def _check_schema(self, readonly: bool) -> None:
        with self._environment.begin(write=not readonly) as txn:
            raw = txn.get(_SCHEMA_KEY, db=self._databases["meta"])
            if raw is None and not readonly:
                txn.put(_SCHEMA_KEY, str(schema.SCHEMA_VERSION).encode(), db=self._databases["meta"])
            elif raw is None:
                raise StoreError(f"the store in {self.path} is being made")
            elif int(raw) > schema.SCHEMA_VERSION:
                raise StoreError(f"the store in {self.path} was written by a newer release (schema {int(raw)})")


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
