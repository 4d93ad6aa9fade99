"""The ports of servers: made, taken over, bound, activated and given back by the workflows, inside their transactions.

What users do with ports through the network API is in ``user_ports``; both save through :func:`save_port`, so that
every change reaches the hosts it concerns.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nova_fast.commands import usage
from nova_fast.commands.addresses import any_addresses, new_macs, released, wished_addresses
from nova_fast.commands.host_networks import mark_hosts_dirty, mark_ports_dirty
from nova_fast.commands.network_limits import take
from nova_fast.commands.security_groups import groups_by_name
from nova_fast.model.commands.ports import AddressRequest
from nova_fast.model.commands.servers import RequestedNic
from nova_fast.model.errors import BadRequest, Conflict, NotFound
from nova_fast.model.networks import Network, Port, Subnet
from nova_fast.model.servers import Server
from nova_fast.queries.networks import subnets_of
from nova_fast.queries.ports import server_ports
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

DEFAULT_ZONE = "nova"
ACTIVE, DOWN = "ACTIVE", "DOWN"


def create_server_ports(
    tx: Transaction, servers: Sequence[Server], nic: RequestedNic, security_groups: tuple[str, ...], index: int
) -> list[Port]:
    """Make a port for each of a project's new servers on a network it may use; each goes when its server goes.

    ``security_groups`` are names or ids; none = the default group. Raises NotFound (``NetworkNotFound``,
    ``SecurityGroupNotFound``), BadRequest (``NetworkRequiresSubnet``, ``InvalidIpForNetwork``), Conflict
    (``IpAddressInUse``, ``IpAddressGenerationFailure``, ``NoUniqueMatch``), OverQuota.
    """
    network, subnets = _bootable_network(tx, nic.network_id)
    project_id, count = servers[0].project_id, len(servers)
    take(tx, project_id, ports=count)
    macs = new_macs(tx, network.id, count)
    if nic.fixed_ip:
        assert count == 1, "one address for several ports"
        addresses = [wished_addresses(tx, network, (AddressRequest(ip_address=nic.fixed_ip),), macs[0])]
    else:
        addresses = any_addresses(tx, network, subnets, macs)
    secured = network.port_security_enabled
    groups = groups_by_name(tx, project_id, security_groups) if secured else ()
    ports = [
        Port(
            id=port_id,
            network_id=network.id,
            project_id=project_id,
            name="",
            mac_address=mac,
            created_at_us=tx.now_us,
            updated_at_us=tx.now_us,
            fixed_ips=ips,
            device_id=server.id,
            device_owner=f"compute:{server.zone or DEFAULT_ZONE}",
            security_groups=groups,
            port_security_enabled=secured,
            revision=1,
            index=index,
            created_by_server=True,
            device_tag=nic.tag,
        )
        for server, port_id, mac, ips in zip(servers, tx.new_uuids(count), macs, addresses, strict=True)
    ]
    tx.insert_all(tables.PORTS, ports)
    mark_ports_dirty(tx, come=ports)
    return ports


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
    found = server_ports(tx, server_id)
    record = tx.get(tables.HOSTS, host) if found else None
    for port in found:
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
    mark_ports_dirty(tx, come=(port,))


def save_port(tx: Transaction, port: Port, **changes: object) -> Port:
    """Store a changed port and tell the hosts it concerns; returns it as it is now."""
    changed = msgspec.structs.replace(port, **changes, revision=port.revision + 1, updated_at_us=tx.now_us)
    tx.put(tables.PORTS, changed)
    kept = {ip.ip_address for ip in changed.fixed_ips}
    released(tx, [ip for ip in port.fixed_ips if ip.ip_address not in kept])
    if changed.fixed_ips == port.fixed_ips and changed.security_groups == port.security_groups:
        # Who is in which group has not changed, so only the hosts that carry the port care.
        mark_hosts_dirty(tx, (port.host, changed.host))
    else:
        mark_ports_dirty(tx, gone=(port,), come=(changed,))
    return changed


def remove_port(tx: Transaction, port: Port) -> None:
    """Remove a port, give its addresses and quota back, and tell the hosts it concerned."""
    tx.delete(tables.PORTS, port.id)
    released(tx, port.fixed_ips)
    usage.give_back(tx, port.project_id, ports=1)
    mark_ports_dirty(tx, gone=(port,))


def _bootable_network(tx: Transaction, network_id: str) -> tuple[Network, list[Subnet]]:
    network = tx.get(tables.NETWORKS, network_id)
    if network is None:
        raise NotFound(f"Network {network_id} could not be found.", code="NetworkNotFound")
    subnets = subnets_of(tx, network.id)
    if not subnets:
        raise BadRequest(
            f"Network {network.id} requires a subnet in order to boot instances on.",
            code="NetworkRequiresSubnet",
            hint="Create a subnet on it first.",
        )
    return network, subnets
