"""Claims: what the servers of a host take of it, changed in the transaction that gives the server its host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from nova_fast.model.errors import Conflict
from nova_fast.model.events import Claimed, Released
from nova_fast.model.hosts import Claim, Host, HostUsage, capacity, most_of, stock_of
from nova_fast.model.placement import allows
from nova_fast.model.servers import Server
from nova_fast.model.topology import GuestTopology, Taken, changed, free_pools, shortage, with_usage
from nova_fast.queries import server_groups
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

#: Properties of an image that make a server take something else than its flavor says.
_CLAIMING = frozenset(("hw_cpu_policy", "hw_mem_encryption"))


def take_host(tx: Transaction, server: Server, host_name: str, chosen: Claim | None = None) -> Server:
    """Claim a host for a server; ``chosen`` is what it is to take there, where that is not just what it asked for.

    Raises Conflict (``claim_conflict``) when the host is gone, closed, too full, or no longer in the server's zone,
    when a CPU or device that was chosen is somebody else's, or when the rule of the server's group would be broken.
    """
    return take_hosts(tx, [(server, host_name, chosen)])[0]


def take_hosts(tx: Transaction, taken: Sequence[tuple[Server, str, Claim | None]]) -> list[Server]:
    """The same for several servers, in no group, one behind the other. Raises Conflict when one is refused.

    PERF: a host is counted once for all of them.
    """
    usages: dict[str, HostUsage] = {}
    servers: list[Server] = []
    events: list[Claimed] = []
    for server, host_name, chosen in taken:
        # The rule of a group asks where others of it are.
        assert len(taken) == 1 or not server.group_id, f"{server.id} is in a group"
        usage = usages.get(host_name) or tx.get(tables.HOST_USAGE, host_name) or HostUsage(host=host_name)
        changed, event = _claimed(tx, server, usage, chosen)
        usages[host_name] = _changed(usage, event.claim, 1)
        servers.append(changed)
        events.append(event)
    for usage in usages.values():
        tx.put(tables.HOST_USAGE, usage)
    tx.emit_all(events)
    return servers


def _claimed(tx: Transaction, server: Server, usage: HostUsage, chosen: Claim | None) -> tuple[Server, Claimed]:
    """A server with the host of which this is the usage, and what it takes there. Raises Conflict."""
    assert not server.host, f"{server.id} has a host already"
    host_name, host = usage.host, tx.get(tables.HOSTS, usage.host)
    if host is None or not host.up or not host.enabled or host.forced_down:
        raise _lost(host_name, "no longer takes servers")
    if server.zone not in ("", host.zone):
        raise _lost(host_name, f"is no longer in zone {server.zone}")
    rule = server_groups.rule_of(tx, server)
    if rule is not None and not server_groups.may_join(tx, rule, host_name):
        raise _lost(host_name, f"is not where group {rule.id} ({rule.policy}) may have this server")
    claim = chosen or server.wish
    if not _fits(host, usage, claim):
        raise _lost(host_name, "has no more room")
    if claim.topology is not None and (why := _shortage(host, usage, claim.topology)):
        raise _lost(host_name, why)
    properties = server.image_properties
    event = Claimed(
        server_id=server.id, host=host_name, claim=claim, group_id=server.group_id, image_properties=properties
    )
    claimed = claim if chosen is not None or not _CLAIMING.isdisjoint(properties) else None
    return msgspec.structs.replace(server, host=host_name, claimed=claimed), event


def _shortage(host: Host, usage: HostUsage, wanted: GuestTopology) -> str:
    cells = with_usage(host.resources.numa, usage.cells)
    pools = free_pools(host.resources.pci, usage.devices)
    return shortage(cells, pools, wanted, (host.cpu_ratio, host.ram_ratio))


def _lost(host: str, why: str) -> Conflict:
    return Conflict(f"Host {host} {why}.", code="claim_conflict", details={"host": host})


def leave_host(tx: Transaction, server: Server) -> Server:
    """Give back what a server took of its host, if it has one."""
    if not server.host:
        return server
    claim = server.claim
    usage = tx.get(tables.HOST_USAGE, server.host)
    assert usage is not None, f"{server.host} has no usage although {server.id} is on it"
    properties = server.image_properties
    _move(tx, usage, Released(server_id=server.id, host=server.host, claim=claim, image_properties=properties))
    return msgspec.structs.replace(server, host="", claimed=None)


def charge(tx: Transaction, consumer_id: str, host_name: str, claim: Claim, sign: int) -> None:
    """Take of a host (1) or give back (-1) what a consumer that is no server claims; the caller has seen that it fits.

    To who follows the events it is a claim like a server's.
    """
    usage = tx.get(tables.HOST_USAGE, host_name) or HostUsage(host=host_name)
    event = Claimed if sign > 0 else Released
    _move(tx, usage, event(server_id=consumer_id, host=host_name, claim=claim))


def _move(tx: Transaction, usage: HostUsage, event: Claimed | Released) -> None:
    """Count what a consumer takes or gives back, and tell who follows."""
    tx.put(tables.HOST_USAGE, _changed(usage, event.claim, 1 if isinstance(event, Claimed) else -1))
    tx.emit(event)


def _fits(host: Host, usage: HostUsage, claim: Claim) -> bool:
    """What a server takes none of may be short, as placement sees it."""
    total = capacity(host)
    return (
        (not claim.vcpus or usage.vcpus + claim.vcpus <= total.vcpus)
        and (not claim.ram_mib or usage.ram_mib + claim.ram_mib <= total.ram_mib)
        and (not claim.disk_gib or usage.disk_gib + claim.disk_gib <= total.disk_gib)
        and all(_fits_class(host, usage, name, amount) for name, amount in claim.resources.items())
    )


def _fits_class(host: Host, usage: HostUsage, name: str, amount: int) -> bool:
    """As placement counts it: capacity, and the least, the most and the step that one consumer may take."""
    return any(
        usage.resources.get(name, 0) + amount <= most_of(own) and allows(own, amount)
        for own in stock_of(host)
        if own.resource_class == name
    )


def _changed(usage: HostUsage, claim: Claim, sign: int) -> HostUsage:
    resources = usage.resources
    if claim.resources:
        counted = Counter(resources)
        for name, amount in claim.resources.items():
            counted[name] += sign * amount
        resources = {name: amount for name, amount in counted.items() if amount}
    new = msgspec.structs.replace(
        usage,
        vcpus=usage.vcpus + sign * claim.vcpus,
        ram_mib=usage.ram_mib + sign * claim.ram_mib,
        disk_gib=usage.disk_gib + sign * claim.disk_gib,
        servers=usage.servers + sign,
        resources=resources,
    )
    least = min(new.vcpus, new.ram_mib, new.disk_gib, new.servers, *resources.values())
    assert least >= 0, f"{usage.host} gave back too much"
    if claim.topology is None:
        return new
    taken = changed(Taken(usage.cells, usage.devices), claim.topology, sign)
    return msgspec.structs.replace(new, cells=taken.cells, devices=taken.devices)
