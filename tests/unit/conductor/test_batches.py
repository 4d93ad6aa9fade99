"""The writer's thread: behind a crowd it waits a moment for more, and for nobody else."""

from __future__ import annotations

import threading
import time

import pytest

from nova_fast.conductor import batches as batches_module
from nova_fast.conductor.batches import ThreadedBatches


@pytest.mark.parametrize("crowd", [True, False])
def test_behind_a_crowd_the_next_batch_gathers(crowd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "GATHER_S", 0.3)
    served: list[tuple[float, list[int]]] = []
    first = threading.Event()

    def serve(batch: list[int]) -> bool:
        served.append((time.monotonic(), batch))
        first.set()
        return crowd

    batches: ThreadedBatches[int] = ThreadedBatches(serve, 512)
    batches.start()
    batches.put(0)
    assert first.wait(5)
    time.sleep(0.05)  # it has gone back to its queue, or waits
    batches.put(1)
    time.sleep(0.05)
    batches.put(2)
    batches.stop()
    assert [batch for _, batch in served] == ([[0], [1, 2]] if crowd else [[0], [1], [2]])
