"""Accepting new servers: everything is checked and recorded in one transaction, or nothing is.

What is accepted has its quota counted, its addresses allocated and its workflow recorded, so nothing that the user
could have been told at once comes back later as a server in ERROR.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from nova_fast.commands import usage
from nova_fast.commands.ports import attach_existing_port, create_server_ports, save_port
from nova_fast.commands.registry import command, together
from nova_fast.commands.servers import check_metadata_quota, insert_servers
from nova_fast.commands.workflows import Creation, start_creations
from nova_fast.model.base import Message
from nova_fast.model.commands.servers import CreateServers, RequestedNic, ServersCreated
from nova_fast.model.errors import BadRequest, Conflict, Forbidden, NotFound, OverQuota
from nova_fast.model.flavors import Flavor
from nova_fast.model.guest_cells import Asked, check_encryption, wanted_cells
from nova_fast.model.identity import Caller
from nova_fast.model.images import Image, ImageStatus
from nova_fast.model.networks import Network
from nova_fast.model.quotas import UNLIMITED
from nova_fast.model.servers import Server, ServerKey, UserData
from nova_fast.model.states import PowerState, TaskState, VmState
from nova_fast.queries import flavors, images, networks, quotas, server_groups
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

GIB = 1 << 30
#: Of one request, which is one transaction: everybody else waits for its end.
SERVERS_MAX = 10_000
USER_DATA_BYTES_MAX = 64 << 20  # of all its servers together
HOSTNAME_BYTES_MAX = 63
_HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")  # as it would be made
_NOT_HOSTNAME = re.compile(r"[^a-zA-Z0-9-]+")


@command(CreateServers)
def create_servers(tx: Transaction, request: CreateServers) -> ServersCreated:
    """Accept ``max_count`` servers, or as many as the quota allows but not fewer than ``min_count``."""
    batch = _batch(tx, request)
    flavor, project_id = batch.flavor, request.caller.project_id
    count = _count(tx, request, flavor)
    _check_group(tx, request, count)
    _check_size(request, count)
    usage.take(tx, project_id, instances=count, cores=count * flavor.vcpus, ram=count * flavor.ram_mib)
    batch = replace(batch, numbered=request.multi_name and count > 1)
    servers = _servers(tx, batch, count)
    insert_servers(tx, servers)
    _add_parts(tx, batch, servers)
    start_creations(tx, [Creation(server, request.caller, request.admin_password) for server in servers])
    return ServersCreated(server_ids=tuple([s.id for s in servers]), reservation_id=batch.shared.reservation_id)


@together(CreateServers)
def create_alike(tx: Transaction, requests: Sequence[CreateServers]) -> list[Message] | None:
    """Accept several requests for one server each as one by one would; None when they are not of that kind.

    Raises NovaFastError when one of them must be refused, whichever that is.

    PERF: what they have in common is looked at once, and the rows of all are written together.
    """
    if any(request.max_count > 1 or request.group_id for request in requests):
        return None
    batches = _batches(tx, requests)
    wanted: dict[str, Counter[str]] = {}
    for batch in batches:
        amounts = wanted.setdefault(batch.request.caller.project_id, Counter())
        amounts.update(instances=1, cores=batch.flavor.vcpus, ram=batch.flavor.ram_mib)
    for project_id, amounts in wanted.items():
        usage.take(tx, project_id, **amounts)
    ids, numbers = tx.new_timed_uuids(len(batches)), tx.next_numbers("servers", len(batches))
    servers = [_server(*one) for one in zip(batches, ids, numbers, strict=True)]
    insert_servers(tx, servers)
    for batch, server in zip(batches, servers, strict=True):
        _add_parts(tx, batch, [server])
    asked = zip(servers, requests, strict=True)
    creations = [Creation(server, request.caller, request.admin_password) for server, request in asked]
    start_creations(tx, creations, of_one=False)
    return [ServersCreated(server_ids=(one.id,), reservation_id=one.reservation_id) for one in servers]


class _Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A request that may be accepted, and what the servers of it share."""

    request: CreateServers
    flavor: Flavor
    nics: tuple[RequestedNic, ...]
    shared: Server
    numbered: bool = False  # several: their names end in -1, -2, …


def _batch(tx: Transaction, request: CreateServers) -> _Batch:
    """Look at all of a request but the quota."""
    project_id = request.caller.project_id
    if not project_id:
        raise Forbidden("A server belongs to a project: the token must be scoped to one.", code="no_project")
    flavor = _flavor(tx, request)
    image = _image(tx, request, flavor)
    if flavor.extra_specs or image.properties:
        asked = Asked(flavor.extra_specs, image.properties, flavor.vcpus, flavor.ram_mib)
        check_encryption(asked, flavor.name, image.name or image.id)
        wanted_cells(asked)  # what contradicts itself is refused here
        _check_devices(request, flavor)
    key = _key(tx, request)
    _check_zone(tx, request)
    check_metadata_quota(tx, project_id, request.metadata)
    nics = _nics(tx, request)
    return _Batch(request=request, flavor=flavor, nics=nics, shared=_shared(tx, request, (flavor, image, key)))


def _batches(tx: Transaction, requests: Sequence[CreateServers]) -> list[_Batch]:
    """The same for several. What differs from the one before only in names, ids and password is not looked at again."""
    batches: list[_Batch] = []
    before: CreateServers | None = None
    for request, digits in zip(requests, tx.new_uuids(len(requests)), strict=True):
        caller = replace(request.caller, request_id="")
        bare = replace(request, name="", hostname="", admin_password="", caller=caller)
        if bare == before:
            shared = replace(batches[-1].shared, reservation_id="r-" + digits[:8])
            batches.append(replace(batches[-1], request=request, shared=shared))
        else:
            batches.append(_batch(tx, request))
        before = bare
    return batches


def _flavor(tx: Transaction, request: CreateServers) -> Flavor:
    flavor = tx.get(tables.FLAVORS, request.flavor_id)
    if flavor is None or not flavors.may_use(flavor, request.caller):
        raise BadRequest(f"Flavor {request.flavor_id} could not be found.", field="flavorRef", code="flavor_not_found")
    return flavor


def _check_devices(request: CreateServers, flavor: Flavor) -> None:
    text = flavor.extra_specs.get("pci_passthrough:alias", "")
    if not text or request.pci_aliases is None:
        return
    for part in text.split(","):
        name = part.partition(":")[0].strip()
        if name not in request.pci_aliases:
            raise BadRequest(
                f"PCI alias {name} is not defined", field="flavorRef", hint="pci_alias of the scheduler's configuration"
            )


def _image(tx: Transaction, request: CreateServers, flavor: Flavor) -> Image:
    image = tx.get(tables.IMAGES, request.image_id)
    if image is None or not images.may_see(image, request.caller):
        raise BadRequest(f"Image {request.image_id} could not be found.", field="imageRef", code="image_not_found")
    if image.status is not ImageStatus.ACTIVE:
        raise BadRequest(f"Image {image.id} is not active.", field="imageRef", code="image_not_active")
    if flavor.ram_mib < image.min_ram_mib:
        raise BadRequest("Flavor's memory is too small for requested image.", field="flavorRef")
    if flavor.disk_gib == 0 and not request.caller.is_admin:
        raise Forbidden("Only volume-backed servers are allowed for flavors with zero disk.", field="flavorRef")
    disk_bytes = flavor.disk_gib * GIB
    needed = max(image.min_disk_gib * GIB, image.virtual_size or 0, image.size or 0)
    if disk_bytes and needed > disk_bytes:
        raise BadRequest(
            f"Flavor's disk is too small for requested image. Flavor disk is {disk_bytes} bytes, "
            f"image is {needed} bytes.",
            field="flavorRef",
            code="flavor_disk_too_small",
            hint="choose a flavor with a larger disk",
        )
    return image


def _key(tx: Transaction, request: CreateServers) -> ServerKey | None:
    if request.key_name is None:
        return None
    pair = tx.get(tables.KEY_PAIRS, (request.caller.user_id, request.key_name))
    if pair is None:
        raise BadRequest("Invalid key_name provided.", field="key_name", code="keypair_not_found")
    return ServerKey(name=pair.name, type=pair.type, public_key=pair.public_key)


def _check_zone(tx: Transaction, request: CreateServers) -> None:
    if request.requested_host:
        if not request.caller.is_admin:
            raise Forbidden("Only an admin may ask for a host.", field="availability_zone")
        if tx.get(tables.HOSTS, request.requested_host) is None:
            raise BadRequest(
                f"Compute host {request.requested_host} could not be found.", field="host", code="host_not_found"
            )
    if request.zone and next(tx.scan_index(tables.HOSTS_BY_ZONE, request.zone, limit=1), None) is None:
        raise BadRequest(
            "The requested availability zone is not available", field="availability_zone", code="zone_not_found"
        )


def _check_group(tx: Transaction, request: CreateServers, count: int) -> None:
    """Raises BadRequest for a group that is not the caller's, OverQuota when it would have too many members."""
    if not request.group_id:
        return
    try:
        group = server_groups.get(tx, request.caller, request.group_id)
    except NotFound as error:
        raise BadRequest(error.message, code=error.code, field="os:scheduler_hints") from None
    limit = quotas.limits(tx, request.caller.project_id)["server_group_members"]
    if limit != UNLIMITED and server_groups.member_count(tx, group.id) + count > limit:
        raise OverQuota(
            "Quota exceeded, too many servers in group",
            code="quota_exceeded",
            details={"resources": "server_group_members"},
            hint=f"a group of this project may have {limit} members",
        )


def _nics(tx: Transaction, request: CreateServers) -> tuple[RequestedNic, ...]:
    if request.networks == "none":
        return ()
    if isinstance(request.networks, str):
        return _only_network(tx, request.caller, must=request.networks == "auto")
    several = request.max_count > 1
    for nic in request.networks:
        if several and nic.port_id:
            raise BadRequest("A port can be given to one server only, but several are asked for.", field="networks")
        if several and nic.fixed_ip:
            raise BadRequest(
                f"An address ({nic.fixed_ip}) can be given to one server only, but several are asked for.",
                field="networks",
            )
        network = networks.visible_network(tx, request.caller, nic.network_id) if nic.network_id else None
        if nic.network_id and network is None:
            raise BadRequest(
                f"Network {nic.network_id} could not be found.", field="networks", code="network_not_found"
            )
        if network is not None and network.external and not request.caller.is_admin:
            raise Forbidden(f"It is not allowed to create an interface on external network {network.id}")
    return request.networks


def _only_network(tx: Transaction, caller: Caller, *, must: bool) -> tuple[RequestedNic, ...]:
    """The project's network, else the shared one; ``auto`` must find one."""
    usable = [network for network in networks.usable_networks(tx, caller) if not network.external]
    own = [network for network in usable if network.project_id == caller.project_id]
    candidates: list[Network] = own or usable
    if len(candidates) > 1:
        raise Conflict(
            "Multiple possible networks found, use a Network ID to be more specific.", code="network_ambiguous"
        )
    if not candidates and must:
        raise BadRequest(
            "Unable to automatically allocate a network: the project has none.",
            field="networks",
            code="network_not_found",
            hint="create a network with a subnet, or ask for no network with --nic none",
        )
    return tuple(RequestedNic(network_id=network.id) for network in candidates)


def _count(tx: Transaction, request: CreateServers, flavor: Flavor) -> int:
    """How many of ``max_count`` the quota allows; ``usage.take`` refuses what is too much even for ``min_count``."""
    assert 1 <= request.min_count <= request.max_count
    used = quotas.usage(tx, request.caller.project_id)
    limits = quotas.limits(tx, request.caller.project_id)
    count = min(request.max_count, SERVERS_MAX)
    for name, has, each in (
        ("instances", used.instances, 1),
        ("cores", used.cores, flavor.vcpus),
        ("ram", used.ram, flavor.ram_mib),
    ):
        if each and limits[name] != UNLIMITED:
            count = min(count, (limits[name] - has) // each)
    return max(count, request.min_count)


def _check_size(request: CreateServers, count: int) -> None:
    """Raises BadRequest for more than one transaction should hold."""
    if count > SERVERS_MAX:
        raise BadRequest(
            f"At most {SERVERS_MAX} servers can be created at once.", field="min_count", hint="ask several times"
        )
    if count * len(request.user_data or b"") > USER_DATA_BYTES_MAX:
        raise BadRequest(
            f"The user data of all servers of a request may have {USER_DATA_BYTES_MAX} bytes together.",
            field="user_data",
            hint="ask for fewer servers at once",
        )


def _shared(tx: Transaction, request: CreateServers, of: tuple[Flavor, Image, ServerKey | None]) -> Server:
    """What the servers of one request have in common. PERF: so one more is a copy."""
    flavor, image, key = of
    return Server(
        id="",
        number=0,
        project_id=request.caller.project_id,
        user_id=request.caller.user_id,
        name="",
        hostname="",
        created_at_us=tx.now_us,
        updated_at_us=tx.now_us,
        vm_state=VmState.BUILDING,
        task_state=TaskState.SCHEDULING,
        power_state=PowerState.NOSTATE,
        flavor=flavor,
        image_id=image.id,
        image_properties=image.properties,
        reservation_id="r-" + tx.new_hex()[:8],
        zone=request.zone,
        description=request.description,
        key=key,
        metadata=request.metadata,
        tags=tuple(sorted(set(request.tags))),
        has_user_data=request.user_data is not None,
        config_drive=request.config_drive or image.properties.get("img_config_drive") == "mandatory",
        disk_config=request.disk_config,
        access_ip_v4=request.access_ip_v4,
        access_ip_v6=request.access_ip_v6,
        scheduler_hints=request.hints,
        requested_host=request.requested_host,
        group_id=request.group_id,
    )


def _servers(tx: Transaction, batch: _Batch, count: int) -> list[Server]:
    ids, numbers = tx.new_timed_uuids(count), tx.next_numbers("servers", count)
    return [_server(batch, *one) for one in zip(ids, numbers, range(count), strict=True)]


def _server(batch: _Batch, server_id: str, number: int, launch_index: int = 0) -> Server:
    request = batch.request
    suffix = f"-{launch_index + 1}" if batch.numbered else ""
    name = request.name + suffix
    hostname = _numbered(request.hostname, suffix) if request.hostname else hostname_of(name, server_id)
    return replace(batch.shared, id=server_id, number=number, name=name, hostname=hostname, launch_index=launch_index)


def _numbered(hostname: str, suffix: str) -> str:
    """A requested host name with a number behind its first label, which keeps its length."""
    label, dot, domain = hostname.partition(".")
    return label[: HOSTNAME_BYTES_MAX - len(suffix)] + suffix + dot + domain


def hostname_of(name: str, server_id: str) -> str:
    """A host name out of a display name, as Nova makes it: what does not belong is dropped, at most 63 characters."""
    if len(name) <= HOSTNAME_BYTES_MAX and _HOSTNAME.fullmatch(name):
        return name
    text = name.encode("ascii", "ignore").decode().replace(" ", "-").replace("_", "-").lower()
    text = _NOT_HOSTNAME.sub("", text).strip("-")[:HOSTNAME_BYTES_MAX].strip("-")
    return text or f"server-{server_id}"


def _add_parts(tx: Transaction, batch: _Batch, servers: list[Server]) -> None:
    """What new servers of a request have besides their record."""
    data = batch.request.user_data
    if data is not None:
        tx.insert_all(tables.USER_DATA, [UserData(server_id=server.id, data=data) for server in servers])
    for index, nic in enumerate(batch.nics):
        _add_ports(tx, servers, batch.request, nic, index)


def _add_ports(tx: Transaction, servers: list[Server], request: CreateServers, nic: RequestedNic, index: int) -> None:
    """Make or take over one port of each. What the request names and is not there is a wrong request, not a 404."""
    try:
        if nic.port_id:
            (server,) = servers
            port = attach_existing_port(tx, server, nic.port_id, index)
            if nic.tag:
                save_port(tx, port, device_tag=nic.tag)
            return
        create_server_ports(tx, servers, nic, request.security_groups, index)
    except NotFound as error:
        field = "security_groups" if error.code == "SecurityGroupNotFound" else "networks"
        raise BadRequest(error.message, code=error.code, field=field, hint=error.hint) from None
    except Conflict as error:
        if error.code != "IpAddressInUse":
            raise
        raise BadRequest(error.message, code=error.code, field="networks") from None
