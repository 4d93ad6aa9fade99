"""The truth about hosts: what their daemons report, whether reports arrive, and what the operator decided.

Reports come from daemons, not from a face, so they are plain functions that the conductor calls; a host or service
exists from its first report on.
"""

from __future__ import annotations

import msgspec

from nova_fast.commands.aggregates import leave_aggregates
from nova_fast.commands.registry import command
from nova_fast.model.commands.hosts import HostResult, RemoveHost, UpdateComputeService
from nova_fast.model.errors import Conflict
from nova_fast.model.events import HostChanged, HostRemoved
from nova_fast.model.hosts import Host, HostResources, HostUsage, Service, Shares, settled
from nova_fast.model.tasks import HostReport, ServiceReport
from nova_fast.queries import aggregates, hosts
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.transaction import Transaction

_NUMBERS = "services"  # computes and other services share one row of numbers, as in the API
NOTED_EVERY_US = 60_000_000  # a heartbeat that says nothing new is written down no more often


def heard_before(reader: Reader, report: HostReport, now_us: int) -> Host | None:
    """The host when its report says nothing that must be written: it is as it was, and was heard a moment ago."""
    host = reader.get(tables.HOSTS, report.host)
    if host is None or not host.up or not 0 <= now_us - host.reported_at_us < NOTED_EVERY_US:
        return None
    if host.default_zone != report.zone or host.reported != _shares(report):
        return None
    if _timeless(host.resources) != _timeless(report.resources) or host.zone != aggregates.zone_of(reader, host):
        return None
    return host


def service_heard_before(reader: Reader, report: ServiceReport, now_us: int) -> bool:
    """The same of another daemon."""
    old = reader.get(tables.SERVICES, report.name)
    if old is None or not old.up or not 0 <= now_us - old.reported_at_us < NOTED_EVERY_US:
        return False
    return (old.binary, old.host, old.zone) == (report.binary, report.host, report.zone)


def record_host_report(tx: Transaction, report: HostReport) -> Host:
    """Record what a compute daemon says of its machine; the first report makes the host.

    Emits HostChanged when anything but the time of the report is new. A report also shows that the host is up.
    """
    old = tx.get(tables.HOSTS, report.host)
    if old is None:
        tx.put(tables.HOST_USAGE, HostUsage(host=report.host))
    host = msgspec.structs.replace(old or _new_host(tx, report), default_zone=report.zone)
    new = msgspec.structs.replace(
        host,
        zone=aggregates.zone_of(tx, host),
        resources=report.resources,
        reported_at_us=tx.now_us,
        up=True,
        reported=_shares(report),
    )
    new = settled(new)
    tx.put(tables.HOSTS, new)
    if old is None or not _same(old, new):
        tx.emit(HostChanged(host=new))
    return new


def record_host_up(tx: Transaction, name: str, up: bool) -> Host | None:
    """Record that heartbeats of a host arrive, or no longer. A host that is not known is left unknown."""
    old = tx.get(tables.HOSTS, name)
    if old is None or old.up == up:
        return old
    new = msgspec.structs.replace(old, up=up)
    tx.put(tables.HOSTS, new)
    tx.emit(HostChanged(host=new))
    return new


def record_build(tx: Transaction, name: str, *, done: bool) -> None:
    """Count a server that a host could not build; one that it could build forgets those before it."""
    old = tx.get(tables.HOSTS, name)
    if old is None or (done and not old.failed_builds):
        return
    new = msgspec.structs.replace(old, failed_builds=0 if done else old.failed_builds + 1)
    tx.put(tables.HOSTS, new)
    tx.emit(HostChanged(host=new))


def record_service_report(tx: Transaction, report: ServiceReport) -> Service:
    """Record that a daemon which is not a compute lives; the first report makes the service."""
    old = tx.get(tables.SERVICES, report.name)
    if old is None:
        new = Service(
            name=report.name,
            binary=report.binary,
            host=report.host,
            uuid=tx.new_uuid(),
            number=tx.next_number(_NUMBERS),
            zone=report.zone,
            reported_at_us=tx.now_us,
        )
    else:
        new = msgspec.structs.replace(
            old, binary=report.binary, host=report.host, zone=report.zone, reported_at_us=tx.now_us, up=True
        )
    tx.put(tables.SERVICES, new)
    return new


def record_service_up(tx: Transaction, name: str, up: bool) -> Service | None:
    """Record that heartbeats of a service arrive, or no longer."""
    old = tx.get(tables.SERVICES, name)
    if old is None or old.up == up:
        return old
    new = msgspec.structs.replace(old, up=up)
    tx.put(tables.SERVICES, new)
    return new


@command(UpdateComputeService)
def update_compute_service(tx: Transaction, request: UpdateComputeService) -> HostResult:
    """Open, close or force down. Raises NotFound. Opening a host forgets why it was closed."""
    old = hosts.get(tx, request.host)
    new = old
    if not isinstance(request.enabled, msgspec.UnsetType):
        reason = None if isinstance(request.disabled_reason, msgspec.UnsetType) else request.disabled_reason
        new = msgspec.structs.replace(new, enabled=request.enabled, disabled_reason=None if request.enabled else reason)
    if not isinstance(request.forced_down, msgspec.UnsetType):
        new = msgspec.structs.replace(new, forced_down=request.forced_down)
    if new != old:
        tx.put(tables.HOSTS, new)
        tx.emit(HostChanged(host=new))
    return HostResult(host=new)


@command(RemoveHost)
def remove_host(tx: Transaction, request: RemoveHost) -> HostResult:
    """Forget a host. Raises NotFound, or Conflict while servers are on it."""
    host = hosts.get(tx, request.host)
    if next(tx.scan_index(tables.CONSUMERS_BY_PROVIDER, host.uuid, limit=1), None) is not None:
        raise Conflict(
            f"Resource provider {host.uuid}, host {host.name}, still has allocations of consumers that are no servers.",
            code="host_in_use",
            hint="Delete them first (openstack resource provider show --allocations).",
        )
    if next(tx.scan_index(tables.PROVIDERS_BY_PARENT, host.uuid, limit=1), None) is not None:
        raise Conflict(
            f"Resource provider {host.uuid}, host {host.name}, still has others below it.",
            code="host_in_use",
            hint="Delete them first (openstack resource provider list --in-tree).",
        )
    used = hosts.usage(tx, host.name)
    if used.servers or hosts.servers_on(tx, host.name):
        raise Conflict(
            f"Host {host.name} still has {used.servers} servers.",
            code="host_in_use",
            hint="Delete or move them first.",
        )
    leave_aggregates(tx, host.name)
    tx.delete(tables.HOSTS, host.name)
    if tx.get(tables.HOST_USAGE, host.name) is not None:
        tx.delete(tables.HOST_USAGE, host.name)
    tx.emit(HostRemoved(host=host.name))
    return HostResult(host=host)


def _new_host(tx: Transaction, report: HostReport) -> Host:
    return Host(
        name=report.host,
        uuid=tx.new_uuid(),
        service_uuid=tx.new_uuid(),
        number=tx.next_number(_NUMBERS),
        zone=report.zone,
        default_zone=report.zone,
        resources=report.resources,
        created_at_us=tx.now_us,
        reported_at_us=tx.now_us,
        strays=True,  # nobody knows what it has: it may have been here before, and removed
    )


def _shares(report: HostReport) -> Shares:
    return Shares(
        cpu_ratio=report.cpu_ratio,
        ram_ratio=report.ram_ratio,
        disk_ratio=report.disk_ratio,
        reserved_ram_mib=report.reserved_ram_mib,
    )


def _same(old: Host, new: Host) -> bool:
    """Whether nothing but times differs."""
    return _without_times(old) == _without_times(new)


def _without_times(host: Host) -> Host:
    return msgspec.structs.replace(host, reported_at_us=0, resources=_timeless(host.resources))


def _timeless(resources: HostResources) -> HostResources:
    """The uptime grows with every report and is nobody's news."""
    return msgspec.structs.replace(resources, uptime="")
