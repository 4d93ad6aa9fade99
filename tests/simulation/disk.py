"""The store on a disk that is slow, full, or does not say whether it has kept what it was given.

What has been committed is there after any crash, and what has not is gone: that is what LMDB and the power-cut tests
promise. So the whole of a batch's fate is decided at one moment, and the crash may come before it, or between it and
the first answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from nova_fast.model.errors import Unavailable
from nova_fast.state.held import Writes
from nova_fast.state.store import Snapshot, Store, StoreError
from nova_fast.state.transaction import Entropy, Transaction, WriteFailed

from .loop import SimLoop

SYNC_S = 0.002


class Mood(enum.Enum):
    """How the disk is now."""

    WELL = "well"
    SLOW = "slow"  # a sync takes seconds
    FULL = "full"  # writes fail, some of them at once and some only at the commit
    UNSURE = "unsure"  # the next commit happens or does not, and nobody is told which


class Disk:
    """The disk of the conductor's machine. Every program on the machine sees the same store."""

    def __init__(self, loop: SimLoop, rng: random.Random, path: Path) -> None:
        self.loop = loop
        self.rng = rng
        self.mood = Mood.WELL
        self.store = Store.open(path)
        self.commits = 0
        self.on_commit: Callable[[Transaction], None] = lambda _tx: None

    def sync_s(self) -> float:
        """How long the next sync takes."""
        if self.mood is Mood.SLOW:
            return 0.2 + 4 * self.rng.random()
        return SYNC_S * (0.3 + 1.4 * self.rng.random())

    def close(self) -> None:
        self.store.close()


class SimStore:
    """A process's open store."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.path = disk.store.path

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        return self._disk.store.snapshot()

    @contextlib.contextmanager
    def transaction(self, now_us: int, entropy: Entropy, *, steady_us: int | None = None) -> Iterator[Transaction]:
        disk, rng = self._disk, self._disk.rng
        if disk.mood is Mood.FULL:
            with self._failing(now_us, entropy, steady_us) as tx:
                yield tx
            raise AssertionError("a full disk took a batch")
        unsure = disk.mood is Mood.UNSURE
        try:
            with disk.store.transaction(now_us, entropy, steady_us=steady_us) as tx:
                yield tx
                if unsure and rng.random() < 0.5:
                    raise StoreError("the disk did not confirm it, and it did not happen")
                tx.settle()
                disk.on_commit(tx)
        finally:
            disk.mood = Mood.WELL if unsure else disk.mood
        disk.commits += 1
        if unsure:
            raise StoreError("the disk did not confirm it, and yet it happened")

    @contextlib.contextmanager
    def _failing(self, now_us: int, entropy: Entropy, steady_us: int | None) -> Iterator[Transaction]:
        left = self._disk.rng.randrange(60)

        try:
            with self._disk.store.transaction(now_us, entropy, steady_us=steady_us) as tx:
                store, write_all = tx._store, tx._write_all

                def take(count: int) -> None:
                    nonlocal left
                    left -= count
                    if left < 0:
                        raise WriteFailed("no space left on device")

                def full(database: Any, key: bytes, value: bytes | None, overwrite: bool = True) -> bool:
                    take(1)
                    return store(database, key, value, overwrite)

                def full_of_many(writes: Writes, *, last: bool = False) -> None:
                    take(len(writes.new) + len(writes.other) + len(writes.gone))
                    write_all(writes, last=last)

                tx._store, tx._write_all = full, full_of_many  # type: ignore[method-assign]
                yield tx
                raise WriteFailed("no space left on device, at the commit")
        except WriteFailed as error:
            raise Unavailable(f"The state could not be written: {error}", code="store_write_failed") from error

    def reader_check(self) -> int:
        return 0

    def close(self) -> None:
        """The file stays open for the other processes."""


class SimBatches:
    """The writer's thread: it takes what has arrived, and the disk takes its time."""

    def __init__(self, disk: Disk, serve: Callable[[list[Any]], object], batch_max: int) -> None:
        self._disk = disk
        self._serve_batch = serve
        self._batch_max = batch_max
        self._queue: deque[Any] = deque()
        self._busy = False
        self._started = False

    def start(self) -> None:
        self._started = True
        self._next()

    def put(self, item: Any) -> None:
        self._queue.append(item)
        self._next()

    def waiting(self) -> int:
        return len(self._queue)

    def stop(self) -> None:
        while self._queue:
            self._take()

    def _next(self) -> None:
        if self._started and self._queue and not self._busy:
            self._busy = True
            asyncio.get_running_loop().call_later(self._disk.sync_s(), self._synced)

    def _synced(self) -> None:
        self._busy = False
        if self._queue:
            self._take()
        self._next()

    def _take(self) -> None:
        batch = [self._queue.popleft() for _ in range(min(self._batch_max, len(self._queue)))]
        self._serve_batch(batch)
