"""Networks and subnets as a caller may see and use them.

A network exists for its project, for admins, and for everybody when it is shared or external; its subnets exist for
whoever the network exists for.
"""

from __future__ import annotations

from collections.abc import Iterator

from nova_fast.model.commands.networks import NetworkRow
from nova_fast.model.errors import NotFound
from nova_fast.model.identity import Caller
from nova_fast.model.networks import Network, Port, Subnet
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader


def sees_network(caller: Caller, network: Network) -> bool:
    """Whether a network exists for the caller."""
    return network.shared or network.external or caller.may_see(network.project_id)


def visible_network(reader: Reader, caller: Caller, network_id: str) -> Network | None:
    """The network, unless it does not exist for the caller."""
    network = reader.get(tables.NETWORKS, network_id)
    return network if network is not None and sees_network(caller, network) else None


def need_network(reader: Reader, caller: Caller, network_id: str) -> Network:
    """The network. Raises NotFound (``NetworkNotFound``) when it does not exist for the caller."""
    network = visible_network(reader, caller, network_id)
    if network is None:
        raise NotFound(f"Network {network_id} could not be found.", code="NetworkNotFound")
    return network


def usable_networks(reader: Reader, caller: Caller) -> list[Network]:
    """The networks a server of the caller's project can be put on without asking: its own and the shared ones."""
    rows = [n for n in reader.scan(tables.NETWORKS) if n.project_id == caller.project_id or n.shared]
    return sorted(rows, key=lambda n: (n.created_at_us, n.id))


def visible_networks(reader: Reader, caller: Caller) -> Iterator[NetworkRow]:
    """Every network that exists for the caller, with its subnets, in the order of ids."""
    for network in reader.scan(tables.NETWORKS):
        if sees_network(caller, network):
            yield network_row(reader, network)


def network_row(reader: Reader, network: Network) -> NetworkRow:
    """A network with the ids of its subnets, oldest first."""
    return NetworkRow(network=network, subnet_ids=tuple(subnet.id for subnet in subnets_of(reader, network.id)))


def subnets_of(reader: Reader, network_id: str) -> list[Subnet]:
    """The subnets of a network, oldest first."""
    return sorted(reader.scan_index(tables.SUBNETS_BY_NETWORK, network_id), key=lambda s: (s.created_at_us, s.id))


def shared_networks(reader: Reader) -> frozenset[str]:
    """The ids of the networks that everybody may use."""
    return frozenset(network.id for network in reader.scan(tables.NETWORKS) if network.shared)


def need_subnet(reader: Reader, caller: Caller, subnet_id: str) -> Subnet:
    """The subnet. Raises NotFound (``SubnetNotFound``) when it does not exist for the caller."""
    subnet = reader.get(tables.SUBNETS, subnet_id)
    if subnet is None or not _sees_subnet(reader, caller, subnet):
        raise NotFound(f"Subnet {subnet_id} could not be found.", code="SubnetNotFound")
    return subnet


def visible_subnets(reader: Reader, caller: Caller) -> Iterator[Subnet]:
    """Every subnet that exists for the caller, in the order of ids."""
    for subnet in reader.scan(tables.SUBNETS):
        if _sees_subnet(reader, caller, subnet):
            yield subnet


def _sees_subnet(reader: Reader, caller: Caller, subnet: Subnet) -> bool:
    """As Neutron: a subnet of an external network is the operator's own affair."""
    if caller.may_see(subnet.project_id):
        return True
    network = reader.get(tables.NETWORKS, subnet.network_id)
    assert network is not None, f"subnet {subnet.id} is of network {subnet.network_id}, which is not there"
    return network.shared or caller.may_see(network.project_id)


def sees_port(reader: Reader, caller: Caller, port: Port) -> bool:
    """Whether a port exists for the caller: its project, the network's owner, an admin."""
    if caller.may_see(port.project_id):
        return True
    network = reader.get(tables.NETWORKS, port.network_id)
    return network is not None and caller.may_see(network.project_id)


def need_port(reader: Reader, caller: Caller, port_id: str) -> Port:
    """The port. Raises NotFound (``PortNotFound``) when it does not exist for the caller."""
    port = reader.get(tables.PORTS, port_id)
    if port is None or not sees_port(reader, caller, port):
        raise NotFound(f"Port {port_id} could not be found.", code="PortNotFound")
    return port


#: No id here is longer; a filter that is cannot match, and would be no key of an index.
FILTER_BYTES_MAX = 255


def visible_ports(reader: Reader, caller: Caller, device_id: str = "", network_id: str = "") -> Iterator[Port]:
    """Every port that exists for the caller, narrowed to a device or a network where that is known."""
    if max(len(device_id.encode()), len(network_id.encode())) > FILTER_BYTES_MAX:
        return
    if device_id:
        ports = reader.scan_index(tables.PORTS_BY_DEVICE, device_id)
    elif network_id:
        ports = reader.scan_index(tables.PORTS_BY_NETWORK, network_id)
    else:
        ports = reader.scan(tables.PORTS)
    for port in ports:
        if sees_port(reader, caller, port):
            yield port
