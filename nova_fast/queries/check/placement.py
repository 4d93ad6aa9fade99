"""What placement's own records name is there, and nobody is known twice."""

from __future__ import annotations

from collections.abc import Iterator

from nova_fast.model.hosts import Host, Inventory
from nova_fast.model.placement import Consumer, ResourceProvider
from nova_fast.model.placement_names import RESOURCE_CLASSES, TRAITS
from nova_fast.queries.check.finding import Finding
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.verify import find, is_there, readable


def placement(reader: Reader) -> Iterator[Finding]:
    """Providers with what is above them, what they have and what they are; consumers with what they take; hosts."""
    hosts = {host.uuid: host for host in readable(reader, tables.HOSTS)}
    for record in readable(reader, tables.PROVIDERS):
        if record.uuid in hosts:
            yield _finding(record.uuid, f"provider {record.name} has the UUID of host {hosts[record.uuid].name}")
        yield from _tree(reader, record, hosts)
        yield from _names(reader, f"provider {record.name}", record.inventories, record.traits)
    for host in hosts.values():
        yield from _names(reader, f"host {host.name}", host.inventories, host.traits)
        for uuid in host.aggregates:
            if is_there(reader, tables.AGGREGATES, uuid):
                yield _finding(host.uuid, f"host {host.name} keeps aggregate {uuid}, which the Compute API has")
    for consumer in readable(reader, tables.CONSUMERS):
        yield from _consumer(reader, consumer, hosts)


def _tree(reader: Reader, record: ResourceProvider, hosts: dict[str, Host]) -> Iterator[Finding]:
    seen, above = {record.uuid}, record.parent
    while above and above not in hosts:
        parent = find(reader, tables.PROVIDERS, above)
        if parent is None:
            yield _finding(record.uuid, f"provider {record.name} is below {above}, which is not there")
            return
        if above in seen:
            yield _finding(record.uuid, f"provider {record.name} is below itself")
            return
        seen.add(above)
        above = parent.parent


def _names(reader: Reader, who: str, inventories: tuple[Inventory, ...], traits: tuple[str, ...]) -> Iterator[Finding]:
    for own in inventories:
        if own.resource_class not in RESOURCE_CLASSES and not is_there(
            reader, tables.RESOURCE_CLASSES, own.resource_class
        ):
            yield _finding(who, f"{who} has an inventory of {own.resource_class}, which is no resource class")
    for trait in traits:
        if trait not in TRAITS and not is_there(reader, tables.TRAITS, trait):
            yield _finding(who, f"{who} has the trait {trait}, which is not there")


def _consumer(reader: Reader, consumer: Consumer, hosts: dict[str, Host]) -> Iterator[Finding]:
    if is_there(reader, tables.SERVERS, consumer.uuid):
        yield _finding(consumer.uuid, f"consumer {consumer.uuid} is a server, and has allocations of its own")
    if not consumer.shares:
        yield _finding(consumer.uuid, f"consumer {consumer.uuid} takes nothing")
    for share in consumer.shares:
        if share.provider not in hosts and not is_there(reader, tables.PROVIDERS, share.provider):
            yield _finding(
                consumer.uuid, f"consumer {consumer.uuid} takes of provider {share.provider}, which is not there"
            )


def _finding(key: str, sentence: str) -> Finding:
    return Finding("placement", key, sentence)
