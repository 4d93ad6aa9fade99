"""The ports of servers: made, taken over, bound, activated and given back by the workflows, inside their transactions.

What users do with ports through the network API is in ``user_ports``; both save through :func:`save_port`, so that
every change reaches the hosts it concerns.
"""

from __future__ import annotations

import msgspec

from nova_fast.commands import usage
from nova_fast.commands.addresses import any_addresses, new_mac, released, wished_addresses
from nova_fast.commands.host_networks import mark_port_dirty
from nova_fast.commands.network_limits import take
from nova_fast.commands.security_groups import groups_by_name
from nova_fast.model.commands.ports import AddressRequest
from nova_fast.model.errors import BadRequest, Conflict, NotFound
from nova_fast.model.networks import Network, Port
from nova_fast.model.servers import Server
from nova_fast.queries.networks import subnets_of
from nova_fast.queries.ports import server_ports
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

DEFAULT_ZONE = "nova"
ACTIVE, DOWN = "ACTIVE", "DOWN"


def create_server_port(
    tx: Transaction,
    server: Server,
    *,
    network_id: str,
    fixed_ip: str | None,
    security_groups: tuple[str, ...],
    index: int,
    tag: str = "",
) -> Port:
    """Make a port for a server on a network that its project may use; it goes when the server goes.

    ``security_groups`` are names or ids; none = the default group. Raises NotFound (``NetworkNotFound``,
    ``SecurityGroupNotFound``), BadRequest (``NetworkRequiresSubnet``, ``InvalidIpForNetwork``), Conflict
    (``IpAddressInUse``, ``IpAddressGenerationFailure``, ``NoUniqueMatch``), OverQuota.
    """
    network = tx.get(tables.NETWORKS, network_id)
    if network is None:
        raise NotFound(f"Network {network_id} could not be found.", code="NetworkNotFound")
    if not subnets_of(tx, network.id):
        raise BadRequest(
            f"Network {network.id} requires a subnet in order to boot instances on.",
            code="NetworkRequiresSubnet",
            hint="Create a subnet on it first.",
        )
    take(tx, server.project_id, ports=1)
    mac = new_mac(tx, network.id)
    wish = (AddressRequest(ip_address=fixed_ip),) if fixed_ip else ()
    addresses = wished_addresses(tx, network, wish, mac) if wish else any_addresses(tx, network, mac)
    port = Port(
        id=tx.new_uuid(),
        network_id=network.id,
        project_id=server.project_id,
        name="",
        mac_address=mac,
        created_at_us=tx.now_us,
        updated_at_us=tx.now_us,
        fixed_ips=addresses,
        device_id=server.id,
        device_owner=f"compute:{server.zone or DEFAULT_ZONE}",
        security_groups=_groups_of(tx, server, network, security_groups),
        port_security_enabled=network.port_security_enabled,
        revision=1,
        index=index,
        created_by_server=True,
        device_tag=tag,
    )
    insert_port(tx, port)
    return port


def attach_existing_port(tx: Transaction, server: Server, port_id: str, index: int) -> Port:
    """Give a server a port that its project made before; it stays when the server goes.

    Raises NotFound (``PortNotFound``), Conflict (``PortInUse``) and BadRequest (``PortRequiresFixedIP``).
    """
    port = tx.get(tables.PORTS, port_id)
    if port is None or port.project_id != server.project_id:
        raise NotFound(f"Port {port_id} could not be found.", code="PortNotFound")
    if port.device_id:
        raise Conflict(f"Port {port.id} is still in use.", code="PortInUse", hint="Another device has it.")
    if not port.fixed_ips:
        raise BadRequest(f"Port {port.id} requires a FixedIP in order to be used.", code="PortRequiresFixedIP")
    return save_port(
        tx,
        port,
        device_id=server.id,
        device_owner=f"compute:{server.zone or DEFAULT_ZONE}",
        index=index,
        status=DOWN,
        host="",
        created_by_server=False,
    )


def bind_ports(tx: Transaction, server_id: str, host: str) -> None:
    """The server will run on a host: its ports belong there from now on. They stay DOWN until they work."""
    assert host, f"ports of {server_id} bound to no host"
    record = tx.get(tables.HOSTS, host)
    for port in server_ports(tx, server_id):
        owner = f"compute:{record.zone}" if record and record.zone else port.device_owner
        save_port(tx, port, host=host, status=DOWN, device_owner=owner)


def activate_ports(tx: Transaction, server_id: str) -> None:
    """The host's network daemon has them working: the ports are ACTIVE. Nothing changes for any host."""
    for port in server_ports(tx, server_id):
        if port.status != ACTIVE:
            tx.put(
                tables.PORTS,
                msgspec.structs.replace(port, status=ACTIVE, revision=port.revision + 1, updated_at_us=tx.now_us),
            )


def unbind_ports(tx: Transaction, server_id: str) -> None:
    """The server has no host any more, but keeps its ports and addresses."""
    for port in server_ports(tx, server_id):
        if port.host or port.status != DOWN:
            save_port(tx, port, host="", status=DOWN)


def release_ports(tx: Transaction, server_id: str) -> None:
    """The server is gone: ports that were made for it go, others are free again."""
    for port in server_ports(tx, server_id):
        if port.created_by_server:
            remove_port(tx, port)
        else:
            save_port(tx, port, device_id="", device_owner="", host="", status=DOWN, index=0, device_tag="")


def insert_port(tx: Transaction, port: Port) -> None:
    """Store a new port, whose quota and addresses have been taken, and tell the hosts it concerns."""
    tx.insert(tables.PORTS, port)
    mark_port_dirty(tx, port)


def save_port(tx: Transaction, port: Port, **changes: object) -> Port:
    """Store a changed port and tell the hosts it concerns; returns it as it is now."""
    changed = msgspec.structs.replace(port, **changes, revision=port.revision + 1, updated_at_us=tx.now_us)
    tx.put(tables.PORTS, changed)
    kept = {ip.ip_address for ip in changed.fixed_ips}
    released(tx, [ip for ip in port.fixed_ips if ip.ip_address not in kept])
    if changed.fixed_ips == port.fixed_ips and changed.security_groups == port.security_groups:
        # Who is in which group has not changed, so only the hosts that carry the port care.
        mark_port_dirty(tx, *(msgspec.structs.replace(p, security_groups=()) for p in (port, changed)))
    else:
        mark_port_dirty(tx, port, changed)
    return changed


def remove_port(tx: Transaction, port: Port) -> None:
    """Remove a port, give its addresses and quota back, and tell the hosts it concerned."""
    tx.delete(tables.PORTS, port.id)
    released(tx, port.fixed_ips)
    usage.give_back(tx, port.project_id, ports=1)
    mark_port_dirty(tx, port)


def _groups_of(tx: Transaction, server: Server, network: Network, names: tuple[str, ...]) -> tuple[str, ...]:
    if not network.port_security_enabled:
        return ()
    return groups_by_name(tx, server.project_id, names)
