"""The writer's thread: behind a crowd it waits a moment for more, and for nobody else."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from nova_fast.conductor import batches as batches_module
from nova_fast.conductor.batches import ENOUGH, GATHER_S, ThreadedBatches


@pytest.mark.parametrize("crowd", [True, False])
def test_behind_a_crowd_the_next_batch_gathers(crowd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clock is the test's: the moment it waits for ends when the test says so."""
    waited: list[float] = []
    waits, go_on, taken = threading.Event(), threading.Event(), threading.Semaphore(0)

    def moment(seconds: float) -> None:
        waited.append(seconds)
        waits.set()
        assert go_on.wait(60)

    served: list[list[int]] = []

    def serve(batch: list[int]) -> bool:
        served.append(batch)
        taken.release()
        return crowd

    monkeypatch.setattr(batches_module, "time", SimpleNamespace(sleep=moment))
    batches: ThreadedBatches[int] = ThreadedBatches(serve, 512)
    batches.start()
    batches.put(0)
    assert taken.acquire(timeout=60)
    if crowd:
        assert waits.wait(60)
    batches.put(1)
    assert crowd or taken.acquire(timeout=60)
    batches.put(2)
    go_on.set()
    batches.stop()
    assert served == ([[0], [1, 2]] if crowd else [[0], [1], [2]])
    if crowd:
        assert sum(waited) == pytest.approx(GATHER_S, rel=0.2) and max(waited) < GATHER_S / 4
    else:
        assert waited == []


@pytest.mark.parametrize("there", [ENOUGH - 1, ENOUGH])
def test_it_waits_no_longer_when_enough_are_there(there: int, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    served: list[int] = []
    both = threading.Event()

    def serve(batch: list[int]) -> bool:
        if not served:
            for number in range(there):
                batches.put(number)
        else:
            both.set()
        served.append(len(batch))
        return len(served) == 1

    monkeypatch.setattr(batches_module, "time", SimpleNamespace(sleep=waited.append))
    batches: ThreadedBatches[int] = ThreadedBatches(serve, 512)
    batches.put(0)
    batches.start()
    assert both.wait(60)
    batches.stop()
    assert served == [1, there]
    assert bool(waited) == (there < ENOUGH)
