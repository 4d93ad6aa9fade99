"""Host aggregates: a change of one and of the zones of its hosts is one transaction, so they cannot disagree.

A host is in one zone at most, and no server changes its zone because of an aggregate: both are refused, as Nova does
(``nova.compute.api.AggregateAPI``). Where Nova says 409 of hosts and 400 of metadata, so do we.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from nova_fast.commands.registry import command
from nova_fast.model.aggregates import ZONE_KEY, Aggregate
from nova_fast.model.commands.aggregates import (
    AddAggregateHost,
    AggregateResult,
    CreateAggregate,
    DeleteAggregate,
    RemoveAggregateHost,
    SetAggregateMetadata,
    UpdateAggregate,
)
from nova_fast.model.errors import BadRequest, Conflict, NotFound
from nova_fast.model.events import AggregateChanged, AggregateRemoved, HostChanged
from nova_fast.model.hosts import Host
from nova_fast.queries import aggregates, hosts
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

NAME_BYTES_MAX = 500  # of UTF-8: what an index key can hold
METADATA_MAX = 1024


@command(CreateAggregate)
def create_aggregate(tx: Transaction, request: CreateAggregate) -> AggregateResult:
    """Make an aggregate without hosts. Raises Conflict when the name is taken."""
    _check_name(tx, request.name)
    aggregate = Aggregate(
        id=tx.new_uuid(),
        number=tx.next_number("aggregates"),
        name=request.name,
        created_at_us=tx.now_us,
        metadata=_checked({ZONE_KEY: request.zone} if request.zone else {}),
    )
    tx.insert(tables.AGGREGATES, aggregate)
    tx.emit(AggregateChanged(aggregate=aggregate))
    return AggregateResult(aggregate=aggregate)


@command(UpdateAggregate)
def update_aggregate(tx: Transaction, request: UpdateAggregate) -> AggregateResult:
    """Change name and zone. Raises NotFound, Conflict for a taken name, BadRequest for a zone that cannot be."""
    aggregate = aggregates.get(tx, request.number)
    changes: dict[str, Any] = {}
    if not isinstance(request.name, msgspec.UnsetType) and request.name != aggregate.name:
        _check_name(tx, request.name)
        changes["name"] = request.name
    if not isinstance(request.zone, msgspec.UnsetType):
        _check_new_zone(tx, aggregate, request.zone, "update")
        changes["metadata"] = _checked({**aggregate.metadata, ZONE_KEY: request.zone})
    return AggregateResult(aggregate=_saved(tx, aggregate, **changes))


@command(SetAggregateMetadata)
def set_aggregate_metadata(tx: Transaction, request: SetAggregateMetadata) -> AggregateResult:
    """Merge metadata. Raises NotFound, BadRequest for a zone that cannot be."""
    aggregate = aggregates.get(tx, request.number)
    if ZONE_KEY in request.metadata:
        _check_new_zone(tx, aggregate, request.metadata[ZONE_KEY] or "", "update metadata of")
    merged = {**aggregate.metadata, **request.metadata}
    metadata = _checked({key: value for key, value in merged.items() if value is not None})
    return AggregateResult(aggregate=_saved(tx, aggregate, metadata=metadata))


@command(AddAggregateHost)
def add_aggregate_host(tx: Transaction, request: AddAggregateHost) -> AggregateResult:
    """Put a host in.

    Raises NotFound, Conflict when it is in already, in another zone, or has servers that would change their zone.
    """
    host = hosts.get(tx, request.host)
    return AggregateResult(aggregate=join(tx, aggregates.get(tx, request.number), host))


def join(tx: Transaction, aggregate: Aggregate, host: Host) -> Aggregate:
    """Put a host in. Raises Conflict as the command does."""
    if host.name in aggregate.hosts:
        raise Conflict(f"Aggregate {aggregate.number} already has host {host.name}.", code="aggregate_host_exists")
    others = {other.zone for other in aggregates.of_host(tx, host.name) if other.zone}
    if aggregate.zone and others - {aggregate.zone}:
        reason = f"One or more hosts already in availability zone(s) {sorted(others)}"
        raise Conflict(f"Cannot add host to aggregate {aggregate.number}. Reason: {reason}.", code="zone_conflict")
    if aggregate.zone and not others:
        _check_no_servers(tx, host.name, (host.zone, aggregate.zone), f"add host to aggregate {aggregate.number}")
    return _saved(tx, aggregate, hosts=(*aggregate.hosts, host.name))


@command(RemoveAggregateHost)
def remove_aggregate_host(tx: Transaction, request: RemoveAggregateHost) -> AggregateResult:
    """Take a host out. Raises NotFound, Conflict when it has servers that would change their zone."""
    aggregate = tx.find(tables.AGGREGATES_BY_NUMBER, request.number)
    host = tx.get(tables.HOSTS, request.host)
    if aggregate is None or host is None or host.name not in aggregate.hosts:
        raise NotFound(
            f"Cannot remove host {request.host} in aggregate {request.number}", code="aggregate_host_not_found"
        )
    return AggregateResult(aggregate=leave(tx, aggregate, host))


def leave(tx: Transaction, aggregate: Aggregate, host: Host) -> Aggregate:
    """Take a host out. Raises Conflict as the command does."""
    left = [other for other in aggregates.of_host(tx, host.name) if other.id != aggregate.id and other.zone]
    if aggregate.zone and not left:
        doing = f"remove host from aggregate {aggregate.number}"
        _check_no_servers(tx, host.name, (host.zone, host.own_zone), doing)
    return _saved(tx, aggregate, hosts=tuple(name for name in aggregate.hosts if name != host.name))


@command(DeleteAggregate)
def delete_aggregate(tx: Transaction, request: DeleteAggregate) -> AggregateResult:
    """Forget an aggregate. Raises NotFound, BadRequest while it has hosts."""
    aggregate = aggregates.get(tx, request.number)
    if aggregate.hosts:
        raise BadRequest(
            f"Cannot remove host from aggregate {aggregate.number}. Reason: Host aggregate is not empty.",
            code="aggregate_not_empty",
            hint="remove its hosts first",
        )
    tx.delete(tables.AGGREGATES, aggregate.id)
    tx.emit(AggregateRemoved(aggregate_id=aggregate.id))
    return AggregateResult(aggregate=aggregate)


def leave_aggregates(tx: Transaction, host: str) -> None:
    """A host that is forgotten is in no aggregate: if it comes back it is a new one."""
    for aggregate in aggregates.of_host(tx, host):
        _put(tx, aggregate, hosts=tuple(name for name in aggregate.hosts if name != host))


# ---------------------------------------------------------------------- checks
def _check_name(tx: Transaction, name: str) -> None:
    if len(name.encode()) > NAME_BYTES_MAX:
        raise BadRequest(f"The name has more than {NAME_BYTES_MAX} bytes.", field="name")
    if tx.find(tables.AGGREGATES_BY_NAME, name) is not None:
        raise Conflict(f"Aggregate {name} already exists.", code="aggregate_exists", field="name")


def _checked(metadata: dict[str, str]) -> dict[str, str]:
    if len(metadata) > METADATA_MAX:
        raise BadRequest(f"An aggregate may have at most {METADATA_MAX} metadata items.", field="metadata")
    zone = metadata.get(ZONE_KEY, "")
    if len(zone.encode()) > NAME_BYTES_MAX:
        raise BadRequest(f"The zone has more than {NAME_BYTES_MAX} bytes.", field=ZONE_KEY)
    return metadata


def _check_new_zone(tx: Transaction, aggregate: Aggregate, zone: str, doing: str) -> None:
    """Whether an aggregate can be this zone. Raises BadRequest."""
    why = ""
    if not zone:
        why = f"Aggregate {aggregate.name} does not support empty named availability zone"
    elif zone != aggregate.zone:
        others = {
            other.zone
            for host in aggregate.hosts
            for other in aggregates.of_host(tx, host)
            if other.zone and other.id != aggregate.id
        }
        if others - {zone}:
            why = f"One or more hosts already in availability zone(s) {sorted(others - {zone})}"
        elif any(_servers_on(tx, host) for host in aggregate.hosts):
            why = "One or more hosts contain instances in this zone"
    if why:
        raise BadRequest(f"Cannot {doing} aggregate {aggregate.number}. Reason: {why}.", code="zone_refused")


def _check_no_servers(tx: Transaction, host: str, zones: tuple[str, str], doing: str) -> None:
    """No server's zone may change because of its host's. Raises Conflict."""
    servers = _servers_on(tx, host)
    before, after = zones
    if servers and before != after:
        raise Conflict(
            f"Cannot {doing}. Reason: The availability zone of the host would change from '{before}' to '{after}' but "
            f"the host already has {servers} instance(s).",
            code="host_has_servers",
            hint="move the instances away from this host, then try again",
        )


def _servers_on(tx: Transaction, host: str) -> int:
    """The servers of a host; its usage may count other consumers of the provider that it is."""
    return tx.count(tables.SERVERS_BY_HOST, host)


# ---------------------------------------------------------------------- writing
def _saved(tx: Transaction, old: Aggregate, **changes: Any) -> Aggregate:
    """The aggregate changed, and the zones of the hosts that this moves."""
    new = _put(tx, old, **changes)
    _settle_zones(tx, {*old.hosts, *new.hosts} if old.zone != new.zone else {*old.hosts} ^ {*new.hosts})
    return new


def _put(tx: Transaction, old: Aggregate, **changes: Any) -> Aggregate:
    new = msgspec.structs.replace(old, **changes, updated_at_us=max(tx.now_us, old.updated_at_us))
    tx.put(tables.AGGREGATES, new)
    tx.emit(AggregateChanged(aggregate=new))
    return new


def _settle_zones(tx: Transaction, names: Iterable[str]) -> None:
    """Write into the records of hosts which zone they are in now; who follows hosts follows zones."""
    for name in sorted(names):
        host = hosts.get(tx, name)
        zone = aggregates.zone_of(tx, host)
        if zone != host.zone:
            changed = msgspec.structs.replace(host, zone=zone, default_zone=host.own_zone)
            tx.put(tables.HOSTS, changed)
            tx.emit(HostChanged(host=changed))
