"""The hub as this machine's configuration has it: its keys, and the daemons' way in."""

from __future__ import annotations

from nova_fast.config import Config
from nova_fast.edges import REAL, Edges
from nova_fast.hub.keys import ServerKeys, has_server_keys, load_peer_keys, make_server_keys
from nova_fast.hub.peer import Peer


def local_server_keys(config: Config) -> ServerKeys | None:
    """The hub's keys when it listens on tcp; made the first time. Raises ConfigError."""
    if not config.hub_address.startswith("tcp://"):
        return None
    return make_server_keys(config.state_path / "keys")


def local_peer(name: str, config: Config, edges: Edges = REAL) -> Peer:
    """A peer of the hub under this name, not started yet. Raises ConfigError.

    On the hub's own machine, which is the one that has the hub's keys, it comes in by the socket there and needs none.
    """
    if not config.hub_address.startswith("tcp://"):
        return Peer(name, config.hub_address, config=config.hub, edges=edges)
    folder = config.state_path / "keys"
    if has_server_keys(folder):
        return Peer(name, config.hub_local_address, config=config.hub, edges=edges)
    return Peer(name, config.hub_address, config=config.hub, keys=load_peer_keys(folder), edges=edges)
