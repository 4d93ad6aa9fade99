"""What ``nova-fast check`` says of placement's records: right while commands write them, and each damage is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import pytest

from nova_fast.commands.hosts import record_host_report
from nova_fast.commands.placement_allocations import set_allocations
from nova_fast.model.aggregates import Aggregate
from nova_fast.model.commands.placement import SetAllocations, WantedConsumer
from nova_fast.model.hosts import Inventory
from nova_fast.model.identity import Caller
from nova_fast.model.placement import ProviderShare, ResourceProvider
from nova_fast.model.tasks import HostReport
from nova_fast.queries.check.recount import recount
from nova_fast.state import schema as tables
from nova_fast.state.testing import MemoryStore, memory_store
from nova_fast.state.transaction import Transaction
from tests.api.host_world import RESOURCES, SMALL
from tests.unit.commands.placement_world import CONSUMER, OTHER, new_server

POOL, BELOW = "a0000000-0000-4000-8000-000000000001", "a0000000-0000-4000-8000-000000000002"


def build(tx: Transaction) -> None:
    """A host, a pool, one below the host, and a consumer of all three."""
    host = record_host_report(tx, HostReport(host="h1", zone="nova", resources=RESOURCES))
    for uuid, parent in ((POOL, ""), (BELOW, host.uuid)):
        own = (Inventory(resource_class="VGPU", total=4),)
        record = ResourceProvider(
            uuid=uuid, name=uuid, created_at_us=1, updated_at_us=1, parent=parent, inventories=own
        )
        tx.insert(tables.PROVIDERS, record)
    shares = (
        ProviderShare(provider=host.uuid, resources={"VCPU": 3}),
        ProviderShare(provider=POOL, resources={"VGPU": 1}),
        ProviderShare(provider=BELOW, resources={"VGPU": 1}),
    )
    wanted = WantedConsumer(uuid=CONSUMER, shares=shares, project_id="p", user_id="u")
    caller = Caller(user_id="a", project_id="p", roles=("admin",))
    set_allocations(tx, SetAllocations(caller=caller, consumers=(wanted,), compare_generations=True))


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    with memory_store() as made:
        made.run(build)
        yield made


def findings(store: MemoryStore) -> list[str]:
    return [found.sentence for found in store.read(lambda reader: list(recount(reader)))]


def change_host(**changes: object) -> Callable[[Transaction], None]:
    return lambda tx: tx.put(tables.HOSTS, msgspec.structs.replace(tx.need(tables.HOSTS, "h1", "Host"), **changes))


def change_pool(**changes: object) -> Callable[[Transaction], None]:
    return lambda tx: tx.put(
        tables.PROVIDERS, msgspec.structs.replace(tx.need(tables.PROVIDERS, POOL, "Provider"), **changes)
    )


def change_consumer(**changes: object) -> Callable[[Transaction], None]:
    return lambda tx: tx.put(
        tables.CONSUMERS, msgspec.structs.replace(tx.need(tables.CONSUMERS, CONSUMER, "Consumer"), **changes)
    )


def forget_consumer(tx: Transaction) -> None:
    tx.delete(tables.CONSUMERS, CONSUMER)


def aggregate_of_both(tx: Transaction) -> None:
    tx.insert(tables.AGGREGATES, Aggregate(id=OTHER, number=1, name="a", created_at_us=1, hosts=("h1",)))
    change_host(aggregates=(OTHER,))(tx)


def a_server_with_the_uuid(tx: Transaction) -> None:
    change_consumer(uuid=new_server(SMALL).id)(tx)
    tx.put(tables.SERVERS, new_server(SMALL))


BROKEN: dict[str, tuple[Callable[[Transaction], None], str]] = {
    "a consumer is lost": (forget_consumer, "3 vcpus are counted as taken of host h1, its servers take 0"),
    "a consumer takes of nobody": (
        lambda tx: tx.delete(tables.PROVIDERS, POOL), f"takes of provider {POOL}, which is not there",
    ),
    "a consumer takes nothing": (change_consumer(shares=()), "takes nothing"),
    "a consumer is a server": (a_server_with_the_uuid, "is a server, and has allocations of its own"),
    "a parent is lost": (change_pool(parent=OTHER), f"is below {OTHER}, which is not there"),
    "a provider is below itself": (change_pool(parent=POOL), "is below itself"),
    "a class is unknown": (
        change_pool(inventories=(Inventory(resource_class="CUSTOM_X", total=1),)), "CUSTOM_X, which is no resource",
    ),
    "a hosts class is unknown": (
        change_host(inventories=(Inventory(resource_class="CUSTOM_X", total=1),)), "host h1 has an inventory of",
    ),
    "a trait is unknown": (change_host(traits=("CUSTOM_X",)), "host h1 has the trait CUSTOM_X, which is not there"),
    "a host has a providers uuid": (change_host(uuid=POOL), "has the UUID of host h1"),
    "an aggregate is there twice": (aggregate_of_both, f"keeps aggregate {OTHER}, which the Compute API has"),
}  # fmt: skip


def test_what_commands_write_is_right(store: MemoryStore) -> None:
    assert findings(store) == []


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named(store: MemoryStore, name: str) -> None:
    damage, sentence = BROKEN[name]
    store.run(damage)
    assert any(sentence in found for found in findings(store)), findings(store)
