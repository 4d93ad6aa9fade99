"""A store for tests of commands and queries: real LMDB in a folder that goes away."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from nova_fast.state.store import Snapshot, Store
from nova_fast.state.transaction import Transaction

T = TypeVar("T")


class MemoryStore:
    """A store with a clock and ids of its own: each run is one transaction, one millisecond later than the last."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._clock = itertools.count(1_700_000_000_000_000, 1000)
        self._ids = itertools.count(1)

    def run(self, work: Callable[[Transaction], T]) -> T:
        """Run a function in a durable transaction of its own; an exception takes everything back."""
        with self.store.transaction(next(self._clock), lambda n: next(self._ids).to_bytes(n, "big")) as tx:
            return work(tx)

    def read(self, work: Callable[[Snapshot], T]) -> T:
        """Run a function on a snapshot."""
        with self.store.snapshot() as snapshot:
            return work(snapshot)


@contextlib.contextmanager
def memory_store() -> Iterator[MemoryStore]:
    """A fresh store in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="nova-fast-store-") as folder:
        store = Store.open(Path(folder) / "store")
        try:
            yield MemoryStore(store)
        finally:
            store.close()
