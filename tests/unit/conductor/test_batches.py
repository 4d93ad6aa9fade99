"""The writer's thread: a batch gathers as long as it is told to, and no longer."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from nova_fast.conductor import batches as batches_module
from nova_fast.conductor.batches import Pause, ThreadedBatches

GATHER_S, ENOUGH = 0.003, 24


@pytest.mark.parametrize("pauses", [True, False])
def test_the_next_batch_gathers_where_it_is_told_to(pauses: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clock is the test's: the moment it waits for ends when the test says so."""
    waited: list[float] = []
    waits, go_on, taken = threading.Event(), threading.Event(), threading.Semaphore(0)

    def moment(seconds: float) -> None:
        waited.append(seconds)
        waits.set()
        assert go_on.wait(60)

    served: list[list[int]] = []

    def serve(batch: list[int]) -> Pause | None:
        served.append(batch)
        taken.release()
        return Pause(GATHER_S, ENOUGH, batches.waiting) if pauses else None

    monkeypatch.setattr(batches_module, "time", SimpleNamespace(sleep=moment))
    batches: ThreadedBatches[int] = ThreadedBatches(serve, 512)
    batches.start()
    batches.put(0)
    assert taken.acquire(timeout=60)
    if pauses:
        assert waits.wait(60)
    batches.put(1)
    assert pauses or taken.acquire(timeout=60)
    batches.put(2)
    go_on.set()
    batches.stop()
    assert served == ([[0], [1, 2]] if pauses else [[0], [1], [2]])
    if pauses:
        assert sum(waited) == pytest.approx(GATHER_S, rel=0.2) and max(waited) < GATHER_S / 4
    else:
        assert waited == []


@pytest.mark.parametrize("there", [ENOUGH - 1, ENOUGH])
def test_it_waits_no_longer_when_enough_are_there(there: int, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    served: list[int] = []
    both = threading.Event()

    def serve(batch: list[int]) -> Pause | None:
        if not served:
            for number in range(there):
                batches.put(number)
        else:
            both.set()
        served.append(len(batch))
        return Pause(GATHER_S, ENOUGH, batches.waiting) if len(served) == 1 else None

    monkeypatch.setattr(batches_module, "time", SimpleNamespace(sleep=waited.append))
    batches: ThreadedBatches[int] = ThreadedBatches(serve, 512)
    batches.put(0)
    batches.start()
    assert both.wait(60)
    batches.stop()
    assert served == [1, there]
    assert bool(waited) == (there < ENOUGH)
