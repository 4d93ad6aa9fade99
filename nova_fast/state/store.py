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
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import lmdb

from nova_fast.files import sync_folder
from nova_fast.model.base import Record
from nova_fast.state import schema
from nova_fast.state.databases import make_databases, open_databases, schema_of
from nova_fast.state.datafile import NAME, DataFile, reserve_lock_file, unavailable
from nova_fast.state.held import Memory
from nova_fast.state.reader import Reader
from nova_fast.state.table import Key, Table
from nova_fast.state.transaction import Entropy, Transaction, WriteFailed

R = TypeVar("R", bound=Record)

MAP_BYTES = 1 << 40  # address space, not disk
READERS_MAX = 512
WRITER_LOCK = "writer.lock"
USE_LOCK = "use.lock"


class Snapshot(Reader):
    """One consistent state of the past moment, a context manager.

    Never hold it across an await: it keeps old pages from being reused.
    """

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._txn.abort()
        self.forget()

    @property
    def engine_transaction(self) -> lmdb.Transaction:
        """The engine's own end of it, for the store."""
        return self._txn

    def forget(self) -> None:
        """Let go of the transaction, so that whoever still has the snapshot can neither use it nor keep its slot.

        SAFETY: a coroutine keeps its variables while it waits, ``with … as snapshot`` among them; LMDB gives a reader's
        slot back only when nothing refers to the transaction, and there are READERS_MAX slots for all processes.
        """
        self._cursors.clear()
        del self._txn


class RememberingSnapshot(Snapshot):
    """A snapshot for the process that writes: a record that lies as a transaction wrote it is not decoded again."""

    __slots__ = ("_memory",)

    def __init__(self, txn: lmdb.Transaction, databases: dict[str, Any], memory: Memory) -> None:
        super().__init__(txn, databases)
        self._memory = memory

    def get(self, table: Table[R], key: str | Key) -> R | None:
        """The record with this key, or None."""
        parts = (key,) if isinstance(key, str) else key
        # SAFETY: another thread may write into this; one look at a dict is whole, and what it gives is held against
        # the bytes of this snapshot.
        kept = self._memory.of(table).get(parts)
        if kept is None:
            return super().get(table, key)
        raw = self._txn.get(kept[3], db=self._databases[table.name])
        if raw == kept[1]:
            return cast(R, kept[0])
        return None if raw is None else table.decode(raw)


#: What reading a file can raise that is damaged, or no store at all.
EngineError = lmdb.Error


class StoreError(Exception):
    """The store cannot be opened or trusted any more; the message says why and what to do."""


class Store:
    """An open store. Make one per process with :meth:`open`."""

    def __init__(
        self,
        path: Path,
        environment: lmdb.Environment,
        databases: dict[str, Any],
        locks: list[int],
        file: DataFile | None,
    ) -> None:
        self.path = path
        self._environment = environment
        self._databases = databases
        self._locks = locks
        self._file = file
        self._memory = Memory()

    @classmethod
    def open(cls, path: Path, *, readonly: bool = False) -> Store:
        """Open (and, when writing, make) the store in a folder.

        Raises StoreError when another process writes it, when it is not there to be read, or when a newer release
        wrote it.
        """
        with contextlib.ExitStack() as undo:
            locks = [] if readonly else [lock_writer(path)]
            undo.callback(_close, locks)
            locks.extend(_lock_use(path))
            if not readonly:
                _found(path)
                _reserve(path)
            environment = _environment(path, readonly=readonly)
            undo.callback(environment.close)
            try:
                file = None if readonly else DataFile(path, int(environment.stat()["psize"]))
                store = cls(path, environment, _open(environment, path, file), locks, file)
                environment.reader_check()
            except (lmdb.Error, OSError, WriteFailed) as e:
                raise StoreError(f"the store in {path} is not complete: {e}") from e
            undo.pop_all()
        return store

    def close(self) -> None:
        """Close the environment and give up the writer's lock."""
        self._environment.close()
        _close(self._locks)

    def snapshot(self) -> Snapshot:
        """A read-only view of the last commit, to be used with ``with``. PERF: 2 µs; as a generator it was 5."""
        if self._file is not None:
            return RememberingSnapshot(self._environment.begin(), self._databases, self._memory)
        return Snapshot(self._environment.begin(), self._databases)

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
                tx.begin(self._memory)
                yield tx
                tx.finish()
                self._make_room(tx)
            except BaseException:
                txn.abort()
                raise
            begin = time.perf_counter()
            try:
                txn.commit()
            except lmdb.Error:
                self._begin().abort()  # raises StoreError when LMDB itself does not know what is on the disk
                raise
            tx.committed(time.perf_counter() - begin)
        except lmdb.Error as e:
            raise unavailable(getattr(e, "code", 0), self.path) from e
        except WriteFailed as e:
            raise unavailable(e.number, self.path) from e
        try:
            self._sync_growth()
        except OSError as e:
            raise StoreError(f"the store in {self.path} grew, but the disk did not confirm it: {e}") from e

    def copy(self, snapshot: Snapshot, descriptor: int) -> None:
        """Write what a snapshot shows to a file or pipe: a whole store without free pages. Raises StoreError."""
        try:
            self._environment.copyfd(descriptor, compact=True, txn=snapshot.engine_transaction)
        except lmdb.Error as e:
            raise StoreError(f"the store in {self.path} could not be copied: {e}") from e

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


def _open(environment: lmdb.Environment, path: Path, file: DataFile | None) -> dict[str, Any]:
    version = schema_of(environment)
    if version is None and file is None:
        raise StoreError(f"the store in {path} is being made")
    if version is not None and version > schema.SCHEMA_VERSION:
        raise StoreError(f"the store in {path} was written by a newer release (schema {version})")
    if file is not None:
        return make_databases(environment, file.make_room)
    try:
        return open_databases(environment)
    except lmdb.NotFoundError as e:
        raise StoreError(f"an older release wrote the store in {path}; what it lacks is added by `nova-fast up`") from e


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
            make_databases(environment)
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


def lock_writer(path: Path) -> int:
    """Be the one writer of a store, as long as the descriptor is open. Raises StoreError when there is another."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path / WRITER_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        os.close(descriptor)
        raise StoreError(f"another process writes the store in {path}") from e
    return descriptor


def lock_out_users(path: Path) -> int:
    """Keep everybody from opening a store, as long as the descriptor is open. Raises StoreError when it is in use."""
    descriptor = os.open(path / USE_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        os.close(descriptor)
        raise StoreError(f"another process has the store in {path} open") from e
    return descriptor


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


def _lock_use(path: Path) -> list[int]:
    """Say that the store is open here: nobody may put another in its place meanwhile."""
    try:
        descriptor = os.open(path / USE_LOCK, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:  # it is not there, or nobody can write it: then nobody replaces it either
        return []
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as e:
        os.close(descriptor)
        raise StoreError(f"the store in {path} is being replaced") from e
    return [descriptor]
