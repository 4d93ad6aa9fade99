"""The conductor's end of the event log: what it keeps in memory is what lies in the log."""

from __future__ import annotations

import random

import pytest

from nova_fast.conductor import events as events_module
from nova_fast.conductor.events import EventLog
from nova_fast.model.events import HostRemoved
from nova_fast.state.testing import memory_store
from nova_fast.state.transaction import Transaction
from tests.lengths import repeats


@pytest.mark.parametrize("seed", range(repeats(8, 200)))
def test_what_is_read_from_memory_is_what_the_log_says(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(events_module, "RECENT_MAX", rng.choice((1, 4, 1000)))

    def work(tx: Transaction) -> list[tuple[int, bytes]]:
        for _ in range(rng.randint(0, 4)):
            mark = tx.savepoint()
            if rng.random() < 0.5:
                tx.emit(HostRemoved(host=f"{rng.random()}"))
            else:
                tx.emit_all([HostRemoved(host=f"{rng.random()}") for _ in range(rng.choice((1, 20)))])
            if rng.random() < 0.3:
                tx.rollback(mark)
        return tx.event_rows

    with memory_store() as store:
        log, last = EventLog(store.store), 0
        for _ in range(12):
            rows = store.run(work)
            told = rng.random() < 0.8
            if not told:  # the next that is told does not follow
                continue
            log.committed(rows)
            if not rows:
                continue
            last = store.read(lambda reader: reader.generation())
            for after in range(last + 2):
                limit = rng.randint(1, 30)
                assert log.read(after, limit) == EventLog(store.store).read(after, limit)
        assert log.oldest() == 1


def test_who_follows_reads_no_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    with memory_store() as store:
        log = EventLog(store.store)
        log.committed([(7, b"a"), (8, b"b")])
        monkeypatch.setattr(store.store, "snapshot", lambda: pytest.fail("the log was read"))
        assert log.read(6, 10) == [(7, b"a"), (8, b"b")]
        assert log.read(7, 1) == [(8, b"b")]
        assert log.read(8, 10) == []
