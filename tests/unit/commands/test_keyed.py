"""Commands under an Idempotency-Key as records: done once, bounded for each owner, forgotten after a day."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from nova_fast.commands import keyed, registry
from nova_fast.conductor.trim import KEYED_AGE_US, trim
from nova_fast.model.commands.keyed import DONE_BEFORE, KeyedCommand
from nova_fast.model.commands.networks import CreateNetworks, NewNetwork
from nova_fast.model.errors import Conflict, NovaFastError, TooLarge
from nova_fast.model.identity import Caller
from nova_fast.model.quotas import Quota
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.testing import MemoryStore, memory_store
from nova_fast.state.transaction import Transaction

ALICE = Caller(user_id="alice", project_id="p1", roles=("member",))


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    registry.load_all()
    with memory_store() as made:
        made.run(lambda tx: tx.put(tables.QUOTAS, Quota(project_id="p1", limits={"network": -1})))
        yield made


def wish(number: int, owner: str, name: str, count: int = 1) -> KeyedCommand:
    command = CreateNetworks(caller=ALICE, networks=(NewNetwork(name=name),) * count)
    encoded = msgspec.msgpack.encode(command)
    return KeyedCommand(id=f"{number:032x}", owner=owner, fingerprint=b"f", sealed=b"s", command=encoded)


def send(store: MemoryStore, number: int, owner: str = "alice/p1", name: str = "n", count: int = 1) -> None:
    store.run(lambda tx: registry.run(tx, wish(number, owner, name, count)))


def kept(store: MemoryStore) -> list[int]:
    """The numbers of the answers that are kept, by age; what is recorded as used is what a recount finds."""

    def look(reader: Reader) -> list[int]:
        rows = list(reader.scan_index(tables.KEYED_BY_TIME))
        counted: dict[str, tuple[int, int]] = {}
        for row in rows:
            count, total = counted.get(row.owner, (0, 0))
            counted[row.owner] = (count + 1, total + keyed._size(row))
        assert counted == {row.owner: (row.count, row.bytes) for row in reader.scan(tables.KEYED_USAGE)}
        return [int(row.id, 16) for row in rows]

    return store.read(look)


def networks(store: MemoryStore) -> int:
    return store.read(lambda reader: reader.size(tables.NETWORKS))


def test_a_second_time_is_refused_and_does_nothing(store: MemoryStore) -> None:
    send(store, 1)
    with pytest.raises(Conflict) as refused:
        send(store, 1, name="other")
    assert refused.value.code == DONE_BEFORE
    assert (networks(store), kept(store)) == (1, [1])


def test_what_a_command_refuses_is_not_kept(store: MemoryStore) -> None:
    store.run(lambda tx: tx.put(tables.QUOTAS, Quota(project_id="p1", limits={"network": 0})))
    with pytest.raises(NovaFastError):
        send(store, 1)
    assert (networks(store), kept(store)) == (0, [])


def test_over_the_bound_the_oldest_of_the_same_owner_go(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed, "ANSWERS_MAX", 5)
    send(store, 100, owner="bob/p1")
    for number in range(8):
        send(store, number)
    assert kept(store) == [100, 3, 4, 5, 6, 7]
    assert networks(store) == 9


def test_bytes_are_bounded_too(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    send(store, 0)
    one = store.read(lambda reader: next(iter(reader.scan(tables.KEYED_USAGE))).bytes)
    monkeypatch.setattr(keyed, "BYTES_MAX", 3 * one)
    send(store, 100, owner="bob/p1", count=5)  # more than all that is left; another's
    for number in range(1, 6):
        send(store, number)
    assert kept(store) == [100, 3, 4, 5]


def test_one_command_drops_a_bounded_number(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        send(store, number)
    monkeypatch.setattr(keyed, "ANSWERS_MAX", 2)
    monkeypatch.setattr(keyed, "DROPPED_MAX", 4)
    send(store, 12)
    assert kept(store) == list(range(4, 13))
    for number in range(13, 20):
        send(store, number)
    assert kept(store) == [18, 19]


def test_an_answer_too_large_to_keep_is_refused_before_anything_is_done(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyed, "ANSWER_BYTES_MAX", 2000)
    with pytest.raises(TooLarge):
        send(store, 1, count=60)
    assert (networks(store), kept(store)) == (0, [])
    send(store, 1)


def test_after_a_day_it_is_forgotten_and_not_before(store: MemoryStore) -> None:
    def aged(tx: Transaction, age_us: int) -> None:
        for row in list(tx.scan(tables.KEYED_ANSWERS)):
            tx.put(tables.KEYED_ANSWERS, msgspec.structs.replace(row, at_us=tx.now_us - age_us))

    for number in range(50):
        send(store, number)
    store.run(lambda tx: aged(tx, KEYED_AGE_US - 60_000_000))
    assert not store.run(lambda tx: trim(tx, rows_max=100))
    assert len(kept(store)) == 50
    store.run(lambda tx: aged(tx, KEYED_AGE_US))
    passes = 1
    while store.run(lambda tx: trim(tx, rows_max=20)):
        assert len(kept(store)) == 50 - 20 * passes
        passes += 1
    assert (kept(store), passes) == ([], 3)
    send(store, 7)
    assert networks(store) == 51
