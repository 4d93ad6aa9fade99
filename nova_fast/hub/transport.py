"""The options of the two sockets, in one place: addresses, high-water marks, CURVE, and link-level heartbeats.

ZeroMQ's own heartbeats are the peers' alone: they break a link that is dead without saying so (a machine that lost its
power), so that ZeroMQ connects again. Whether a peer is alive the hub decides by what it says, and ends the connection
of one that says nothing.
"""

from __future__ import annotations

import os
import resource
import socket as unix
from collections.abc import Collection
from pathlib import Path

import zmq

from nova_fast.config import ConfigError, HubConfig
from nova_fast.hub.keys import ZAP_DOMAIN, PeerKeys, ServerKeys, make_private_folder
from nova_fast.hub.limits import Limits

_IPC_PATH_MAX = 107  # bytes in sockaddr_un, less the final zero
_BACKLOG = 4096
_LOCAL_THREAD, _OTHER_THREAD = 1, 2  # masks: the first and the second of a context
_CUT_READS = 16
_CUT_READ_BYTES = 1 << 18


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


def allow_many_connections() -> None:
    """Each peer takes a file descriptor of this process: raise the limit as far as an ordinary process may.

    The usual soft limit of 1,024 is there for programs that use select(2), which this one does not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def hub_socket(context: zmq.Context[zmq.Socket[bytes]], config: HubConfig, limits: Limits) -> zmq.Socket[bytes]:
    """A ROUTER that drops nothing silently."""
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    socket.setsockopt(zmq.BACKLOG, _BACKLOG)
    # PERF: no heartbeats of ZeroMQ at this end. It ends each of their timers by a walk through all of them:
    # with 5,000 peers its thread did little else, and did not come to accept those who connected.
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)  # ends what never got so far as to have a name
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, max(1, int(config.down_after_s)))
    _set_common(socket, config, limits)
    return socket


def two_ways(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    """Let a context have what :func:`bind_both` needs; before it has a socket."""
    context.set(zmq.IO_THREADS, 2)


def bind_both(socket: zmq.Socket[bytes], local_address: str, address: str, keys: ServerKeys | None) -> str:
    """Bind for the daemons of this machine, and over tcp for those of others; the real address of the latter.

    Each way in has a thread of ZeroMQ of its own: a handshake of CURVE takes it a millisecond, and thousands that come
    at once hold up nobody on the other way.
    """
    socket.setsockopt(zmq.AFFINITY, _LOCAL_THREAD)
    bind_hub(socket, local_address, None)
    socket.setsockopt(zmq.AFFINITY, _OTHER_THREAD)
    return bind_hub(socket, address, keys)


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
    context: zmq.Context[zmq.Socket[bytes]],
    config: HubConfig,
    limits: Limits,
    keys: PeerKeys | None,
    reconnect_ms: tuple[int, int],
) -> zmq.Socket[bytes]:
    """A DEALER that takes messages only while it is connected, and shows itself on every new connection.

    Between two attempts to connect pass ``reconnect_ms``: the first number, doubled up to the second; if that is 0, the
    first number and up to as much again, at random.
    """
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.PROBE_ROUTER, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, reconnect_ms[0])
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, reconnect_ms[1])
    _set_common(socket, config, limits)
    socket.setsockopt(zmq.HEARTBEAT_IVL, max(1, int(config.heartbeat_s * 1000)))
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, max(1, int(config.down_after_s * 1000)))
    if keys is not None:
        socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server_public)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
    return socket


def pipe_frames_max(config: HubConfig, limits: Limits) -> int:
    """Frames an honest peer can have under way: calls and answers of both directions, resends, a window of events."""
    return 4 * config.credits + limits.event_window + 64


def descriptor_of(part: zmq.Frame) -> int:
    """The connection by which a frame came; -1 when that cannot be known."""
    try:
        return int(part.get(zmq.SRCFD))
    except zmq.ZMQError:
        return -1


def connection_of(descriptor: int) -> unix.socket | None:
    """The connection behind a descriptor of somebody else, by a descriptor of our own; None if it is none."""
    try:
        own = os.dup(descriptor)
    except OSError:
        return None
    try:
        return unix.socket(fileno=own)
    except OSError:  # not a socket: then the copy is still ours to close
        os.close(own)
        return None


def came_by(descriptor: int, address: str) -> bool:
    """Whether a connection came in by this address."""
    connection = connection_of(descriptor)
    if connection is None:
        return False
    with connection:
        return _is_of(connection, address)


def _is_of(connection: unix.socket, address: str) -> bool:
    try:
        name = connection.getsockname()
    except OSError:
        return False
    if isinstance(name, str):
        return bool(name) and name == address.removeprefix("ipc://")
    return isinstance(name, tuple) and address.endswith(f":{name[1]}")


def cut_connection(descriptor: int, addresses: Collection[str]) -> None:
    """End a connection of the hub's socket, and throw away what it has sent.

    ZeroMQ has no call for that. SAFETY: the descriptor belongs to ZeroMQ's thread, which may have closed it, so that it
    may be another one by now. Only a connection of the hub's own address is touched; the worst that can happen is that
    another peer has to connect again, which it does by itself and without loss.
    """
    connection = connection_of(descriptor)
    if connection is None:
        return
    with connection:
        try:
            if not any(_is_of(connection, address) for address in addresses):
                return
            connection.shutdown(unix.SHUT_RDWR)
            for _ in range(_CUT_READS):
                if not connection.recv(_CUT_READ_BYTES, unix.MSG_DONTWAIT):
                    return
        except OSError:
            return


def _set_common(socket: zmq.Socket[bytes], config: HubConfig, limits: Limits) -> None:
    marks = limits.pipe_frames or pipe_frames_max(config, limits)
    socket.setsockopt(zmq.SNDHWM, marks)
    socket.setsockopt(zmq.RCVHWM, marks)
    socket.setsockopt(zmq.LINGER, limits.linger_ms)
    socket.setsockopt(zmq.MAXMSGSIZE, limits.message_bytes_max)
