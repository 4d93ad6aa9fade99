"""Networks and their subnets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from nova_fast.client.answers import Many, One, check
from nova_fast.client.bridge import Core
from nova_fast.client.requests import new_key, path_of, query_of
from nova_fast.client.shapes import Network, Subnet, id_of
from nova_fast.model.sdk import Ask

_NETWORK = One(Network, "network")
_NETWORKS = Many(Network, "networks")
_SUBNET = One(Subnet, "subnet")
_PATH = "/v2.0/networks"


class Networks:
    """``cloud.networks``."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def list(self, **filters: Any) -> Iterator[Network]:
        """The networks one may use; filters as the Networking API has them."""
        rows, _ = _NETWORKS.read(self._core.ask(Ask("network", "GET", f"{_PATH}{query_of(filters)}"), alone=True))
        yield from rows

    def get(self, network_id: str) -> Network:
        """One network. Raises NotFound."""
        return _NETWORK.read(self._core.ask(Ask("network", "GET", path_of(_PATH, network_id))))

    def create(self, name: str, *, cidr: str = "") -> Network:
        """Make a network, with a subnet when a CIDR is given."""
        body = msgspec.json.encode({"network": {"name": name}})
        network = _NETWORK.read(self._core.ask(Ask("network", "POST", _PATH, body, new_key())))
        if not cidr:
            return network
        self.add_subnet(network, cidr)
        return self.get(network.id)

    def add_subnet(self, network: str | Network, cidr: str) -> Subnet:
        """Give a network addresses."""
        asked = {"network_id": id_of(network), "ip_version": 6 if ":" in cidr else 4, "cidr": cidr}
        body = msgspec.json.encode({"subnet": asked})
        return _SUBNET.read(self._core.ask(Ask("network", "POST", "/v2.0/subnets", body, new_key())))

    def delete(self, network_id: str) -> None:
        check(self._core.ask(Ask("network", "DELETE", path_of(_PATH, network_id))))
