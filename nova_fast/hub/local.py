"""The hub as this machine's configuration has it: its keys, and the daemons' way in."""

from __future__ import annotations

from nova_fast.config import Config
from nova_fast.edges import REAL, Edges
from nova_fast.hub.keys import (
    PeerKeys,
    ServerKeys,
    load_peer_keys,
    make_peer_keys,
    make_server_keys,
    save_allowed,
)
from nova_fast.hub.peer import Peer


def local_server_keys(config: Config) -> ServerKeys | None:
    """The hub's keys when it listens on tcp, and this machine's own key let in. Raises ConfigError."""
    if not config.hub_address.startswith("tcp://"):
        return None
    folder = config.state_path / "keys"
    keys = make_server_keys(folder)
    own = make_peer_keys(folder, keys.public)
    hosts = [name for host in config.played_hosts for name in (f"compute@{host}", f"network@{host}")]
    keys.allowed.allow(own.public, ["api.*", "cli.*", "scheduler", *hosts])
    save_allowed(folder, keys.allowed)
    return keys


def local_peer(name: str, config: Config, edges: Edges = REAL) -> Peer:
    """A peer of the hub under this name, not started yet. Raises ConfigError."""
    keys: PeerKeys | None = None
    if config.hub_address.startswith("tcp://"):
        keys = load_peer_keys(config.state_path / "keys")
    return Peer(name, config.hub_address, config=config.hub, keys=keys, edges=edges)
