"""The options of the two sockets, in one place: addresses, high-water marks, CURVE, and link-level heartbeats.

ZeroMQ's own heartbeats only break links that are dead without saying so (a machine that lost its power), so that
ZeroMQ connects again; whether a peer is alive is decided by what it says.
"""

from __future__ import annotations

import os
import socket as unix
from pathlib import Path

import zmq

from nova_fast.config import ConfigError, HubConfig
from nova_fast.hub.keys import ZAP_DOMAIN, PeerKeys, ServerKeys, make_private_folder
from nova_fast.hub.limits import Limits

_IPC_PATH_MAX = 107  # bytes in sockaddr_un, less the final zero
_BACKLOG = 4096
_RECONNECT_MS = 50
_RECONNECT_MS_MAX = 1000


def check_address(address: str, *, has_keys: bool) -> None:
    """Raise ConfigError unless this is an address the hub may use."""
    scheme, _, rest = address.partition("://")
    if scheme == "ipc" and rest:
        if len(os.fsencode(rest)) > _IPC_PATH_MAX:
            raise ConfigError(f"hub.address: the path {rest} is longer than {_IPC_PATH_MAX} bytes")
    elif scheme == "tcp" and rest:
        if not has_keys:
            raise ConfigError(f"hub.address: {address} needs CURVE keys; nothing is sent over tcp unencrypted")
    else:
        raise ConfigError(f"hub.address: {address!r} is neither ipc://path nor tcp://host:port")


def hub_socket(context: zmq.Context[zmq.Socket[bytes]], config: HubConfig, limits: Limits) -> zmq.Socket[bytes]:
    """A ROUTER that drops nothing silently."""
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    socket.setsockopt(zmq.BACKLOG, _BACKLOG)
    _set_common(socket, config, limits)
    return socket


def bind_hub(socket: zmq.Socket[bytes], address: str, keys: ServerKeys | None) -> str:
    """Bind; the real address (a port 0 is filled in). A socket file gets mode 0600 from its first moment."""
    if address.startswith("tcp://"):
        assert keys is not None
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        socket.bind(address)
        return str(socket.getsockopt_string(zmq.LAST_ENDPOINT))
    path = Path(address.removeprefix("ipc://"))
    make_private_folder(path.parent)
    if _is_listening(path):
        raise ConfigError("another process is listening there: address already in use")
    mask = os.umask(0o177)
    try:
        socket.bind(address)
    finally:
        os.umask(mask)
    return address


def _is_listening(path: Path) -> bool:
    """Whether a process serves this socket file; ZeroMQ would take it away from that process without a word."""
    with unix.socket(unix.AF_UNIX, unix.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True


def peer_socket(
    context: zmq.Context[zmq.Socket[bytes]], config: HubConfig, limits: Limits, keys: PeerKeys | None
) -> zmq.Socket[bytes]:
    """A DEALER that takes messages only while it is connected, and shows itself on every new connection."""
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.PROBE_ROUTER, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MS_MAX)
    _set_common(socket, config, limits)
    if keys is not None:
        socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server_public)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
    return socket


def _set_common(socket: zmq.Socket[bytes], config: HubConfig, limits: Limits) -> None:
    # Calls and answers of both directions, resends, and a window of events fit without the pipe being full.
    marks = 4 * config.credits + limits.event_window + 64
    socket.setsockopt(zmq.SNDHWM, marks)
    socket.setsockopt(zmq.RCVHWM, marks)
    socket.setsockopt(zmq.LINGER, limits.linger_ms)
    socket.setsockopt(zmq.MAXMSGSIZE, limits.message_bytes_max)
    socket.setsockopt(zmq.HEARTBEAT_IVL, max(1, int(config.heartbeat_s * 1000)))
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, max(1, int(config.down_after_s * 1000)))
    socket.setsockopt(zmq.HEARTBEAT_TTL, min(max(100, int(config.down_after_s * 1000)), 6_500_000))
