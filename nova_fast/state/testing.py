"""A store for tests of commands and queries: real LMDB in a folder that goes away, in memory where that can be.

What these tests prove is logic, not what a disk does: ``tests/cloud`` has the disks.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from nova_fast.state.store import Snapshot, Store
from nova_fast.state.transaction import Transaction

T = TypeVar("T")
_TICK_US = 1000
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of an unforeseeable name is made in it


class Saved(msgspec.Struct, frozen=True):
    """Everything a store held at one moment, and where its clock and ids stood."""

    rows: dict[str, list[tuple[bytes, bytes]]]
    now_us: int
    next_id: int


class MemoryStore:
    """A store with a clock and ids of its own: each run is one transaction, one millisecond later than the last."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._clock = itertools.count(1_700_000_000_000_000, _TICK_US)
        self._ids = itertools.count(1)

    def run(self, work: Callable[[Transaction], T]) -> T:
        """Run a function in a durable transaction of its own; an exception takes everything back."""
        with self.store.transaction(next(self._clock), self._entropy) as tx:
            return work(tx)

    def _entropy(self, count: int) -> bytes:
        """Bytes that are foreseen, and yet no id is given twice: of 16 bytes, or of the 3 of a MAC address."""
        size = next(size for size in (16, 3, count) if count % size == 0)
        return b"".join([next(self._ids).to_bytes(size, "big") for _ in range(count // size)])

    def read(self, work: Callable[[Snapshot], T]) -> T:
        """Run a function on a snapshot."""
        with self.store.snapshot() as snapshot:
            return work(snapshot)

    def save(self) -> Saved:
        """Everything that is there now, to begin from it again."""
        with self.store._environment.begin() as txn:
            rows = {name: list(txn.cursor(db=db)) for name, db in self.store._databases.items()}
        saved = Saved(rows=rows, now_us=next(self._clock), next_id=next(self._ids))
        self._set(saved)
        return saved

    def put_back(self, saved: Saved) -> None:
        """Be as it was when it was saved: the same rows, and the same clock and ids from here on."""
        with self.store._environment.begin(write=True) as txn:
            for name, db in self.store._databases.items():
                rows = saved.rows[name]
                if list(txn.cursor(db=db)) != rows:
                    txn.drop(db, delete=False)
                    for key, value in rows:
                        txn.put(key, value, db=db)
        self._set(saved)

    def _set(self, saved: Saved) -> None:
        self._clock, self._ids = itertools.count(saved.now_us, _TICK_US), itertools.count(saved.next_id)


@contextlib.contextmanager
def memory_store() -> Iterator[MemoryStore]:
    """A fresh store in a temporary folder."""
    parent = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="nova-fast-store-", dir=parent) as folder:
        store = Store.open(Path(folder) / "store")
        try:
            yield MemoryStore(store)
        finally:
            store.close()
