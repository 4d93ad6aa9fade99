"""Which ports a server has, and its addresses as the compute API shows them."""

from __future__ import annotations

from nova_fast.model.networks import Port
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader

#: (address, IP version, MAC address)
ServerAddress = tuple[str, int, str]


def server_ports(reader: Reader, server_id: str) -> list[Port]:
    """The ports of a server in the order of its network cards."""
    return reader.select(tables.PORTS_BY_DEVICE, server_id)


def has_ports(reader: Reader, server_id: str) -> bool:
    """Whether a server has ports."""
    return reader.is_any(tables.PORTS_BY_DEVICE, server_id)


def server_addresses(
    reader: Reader, server_id: str, names: dict[str, str] | None = None
) -> dict[str, list[ServerAddress]]:
    """Network name → addresses of a server there, in the order of its network cards.

    PERF: ``names`` (network id → name) is filled and used again, so a list of servers reads each network once.
    """
    known = {} if names is None else names
    addresses: dict[str, list[ServerAddress]] = {}
    for port in reader.select(tables.PORTS_BY_DEVICE, server_id):
        name = known.get(port.network_id)
        if name is None:
            name = known[port.network_id] = network_name(reader, port.network_id)
        rows = addresses.setdefault(name, [])
        for ip in port.fixed_ips:
            rows.append((ip.ip_address, 6 if ":" in ip.ip_address else 4, port.mac_address))
    return addresses


def network_name(reader: Reader, network_id: str) -> str:
    """The name of a network that has ports, so it must be there."""
    network = reader.get(tables.NETWORKS, network_id)
    assert network is not None, f"ports are on network {network_id}, which is not there"
    return network.name
