"""Hosts as their operator sees them: state, usage, who runs on them, and the services and zones they make."""

from __future__ import annotations

from collections.abc import Iterable

from nova_fast.model.base import Value
from nova_fast.model.errors import BadRequest, NotFound
from nova_fast.model.hosts import Host, HostUsage, Service
from nova_fast.model.servers import Server
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader

#: The zone of the services that are not computes.
INTERNAL_ZONE = "internal"
COMPUTE_BINARY = "nova-compute"


class ServiceRow(Value, frozen=True):
    """A service as the API lists it: a compute (made from its host) or another daemon."""

    number: int
    uuid: str
    binary: str
    host: str
    zone: str
    enabled: bool
    up: bool
    forced_down: bool
    disabled_reason: str | None
    reported_at_us: int


class Zone(Value, frozen=True):
    """An availability zone: the computes in it. It can take servers when one of them is open and up."""

    name: str
    services: tuple[ServiceRow, ...]

    @property
    def available(self) -> bool:
        return any(row.enabled and row.up for row in self.services)


def is_up(host: Host | Service) -> bool:
    """Heartbeats arrive, and no admin has said that it is down."""
    return host.up and not host.forced_down


def usage(reader: Reader, host: str) -> HostUsage:
    """What is taken of a host."""
    return reader.get(tables.HOST_USAGE, host) or HostUsage(host=host)


def servers_on(reader: Reader, host: str) -> list[Server]:
    """The servers that claim a host."""
    return list(reader.scan_index(tables.SERVERS_BY_HOST, host))


def get(reader: Reader, name: str) -> Host:
    """A host by its name. Raises NotFound."""
    host = reader.get(tables.HOSTS, name)
    if host is None:
        raise NotFound(f"Compute host {name} could not be found.", code="host_not_found")
    return host


def known(reader: Reader, name: str) -> bool:
    """Whether a host of this name has ever reported and was not deleted."""
    return reader.get(tables.HOSTS, name) is not None


def by_uuid(reader: Reader, uuid: str) -> Host | None:
    """The host whose hypervisor and resource provider have this UUID."""
    return reader.find(tables.HOSTS_BY_UUID, uuid)


def by_number(reader: Reader, number: int) -> Host | None:
    """The host that older microversions know by this number."""
    return reader.find(tables.HOSTS_BY_NUMBER, number)


def listing(reader: Reader, pattern: str = "", marker: str | None = None, limit: int | None = None) -> list[Host]:
    """One page of hosts by name, those whose name contains ``pattern``.

    ``marker`` is a UUID or, of older microversions, a number. Raises BadRequest when it is no host's.
    """
    after = None
    if marker is not None:
        last = by_number(reader, int(marker)) if marker.isdecimal() and len(marker) < 19 else by_uuid(reader, marker)
        if last is None:
            raise BadRequest(f"marker [{marker}] not found", code="marker_not_found", field="marker")
        after = last.name
    found: list[Host] = []
    for host in reader.scan(tables.HOSTS, after=after):
        if limit is not None and len(found) >= limit:
            break
        if pattern in host.name:
            found.append(host)
    return found


def services(reader: Reader, host: str | None = None, binary: str | None = None) -> list[ServiceRow]:
    """Every service, or those on a host, or of a kind, in the order of their numbers."""
    rows = [compute_row(h) for h in reader.scan(tables.HOSTS)] if binary in (None, COMPUTE_BINARY) else []
    rows += [_service_row(service) for service in reader.scan(tables.SERVICES)]
    wanted = [row for row in rows if host in (None, row.host) and binary in (None, row.binary)]
    return sorted(wanted, key=lambda row: row.number)


def service_by_uuid(reader: Reader, uuid: str) -> ServiceRow | None:
    """The service with this UUID."""
    host = reader.find(tables.HOSTS_BY_SERVICE_UUID, uuid)
    if host is not None:
        return compute_row(host)
    service = reader.find(tables.SERVICES_BY_UUID, uuid)
    return None if service is None else _service_row(service)


def compute_row(host: Host) -> ServiceRow:
    """The compute service of a host."""
    return ServiceRow(
        number=host.number,
        uuid=host.service_uuid,
        binary=COMPUTE_BINARY,
        host=host.name,
        zone=host.zone,
        enabled=host.enabled,
        up=is_up(host),
        forced_down=host.forced_down,
        disabled_reason=host.disabled_reason,
        reported_at_us=host.reported_at_us,
    )


def zones(reader: Reader) -> list[Zone]:
    """The availability zones that hosts make, by name."""
    return _grouped(compute_row(host) for host in reader.scan(tables.HOSTS))


def internal_zone(reader: Reader) -> Zone:
    """The zone of the services that are not computes."""
    return Zone(name=INTERNAL_ZONE, services=tuple(map(_service_row, reader.scan(tables.SERVICES))))


def _grouped(rows: Iterable[ServiceRow]) -> list[Zone]:
    found: dict[str, list[ServiceRow]] = {}
    for row in rows:
        found.setdefault(row.zone, []).append(row)
    return [Zone(name=name, services=tuple(found[name])) for name in sorted(found)]


def _service_row(service: Service) -> ServiceRow:
    return ServiceRow(
        number=service.number,
        uuid=service.uuid,
        binary=service.binary,
        host=service.host,
        zone=INTERNAL_ZONE,
        enabled=service.enabled,
        up=is_up(service),
        forced_down=service.forced_down,
        disabled_reason=service.disabled_reason,
        reported_at_us=service.reported_at_us,
    )
