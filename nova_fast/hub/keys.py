"""Who may be whom: CURVE keys, and the list of keys the hub lets in.

Over tcp every link is CURVE. The hub has one key pair, every node has one. The allow-list maps a node's public key to
the peer names it may use: ``compute@host1``, or with a trailing ``*`` a family such as ``api.*``. A key that is not
on the list does not get past the handshake; a key that is on it and claims another's name is refused at HELLO.

Files lie in one folder of mode 0700, each of mode 0600; a file that others can read is not used::

    hub.key        public and secret key of the hub
    peer.key       public and secret key of a node, and the hub's public key
    allowed.keys   the list: a public key and its names on each line
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

import zmq
from zmq.utils import z85

from nova_fast.config import ConfigError
from nova_fast.files import write_atomically
from nova_fast.hub.limits import Counters
from nova_fast.hub.sockets import FdSocket

SERVER_FILE = "hub.key"
PEER_FILE = "peer.key"
ALLOWED_FILE = "allowed.keys"
KEY_BYTES = 40  # of a key in Z85

_ZAP_ADDRESS = "inproc://zeromq.zap.01"
ZAP_DOMAIN = b"nova-fast"
_ASKED_MIN = 32  # before a new socket is worth it
_QUIET_S = 3.0  # since the last of them asked


def key_name(public: bytes) -> str:
    """A short name of a key, for peer names that only it may use."""
    return hashlib.blake2b(public, digest_size=8).hexdigest()


class AllowList:
    """Public keys and the peer names each may use; may change while the hub runs."""

    def __init__(self, names: dict[bytes, tuple[str, ...]] | None = None) -> None:
        self._names = {public: _Names(own) for public, own in (names or {}).items()}

    def allow(self, public: bytes, names: Iterable[str]) -> None:
        """Let this key use these names (and no others)."""
        _check_key(public)
        self._names[public] = _Names(names)

    def forbid(self, public: bytes) -> None:
        """Let this key in no more; links it has are cut at the next heartbeat."""
        self._names.pop(public, None)

    def knows(self, public: bytes) -> bool:
        return public in self._names

    def permits(self, public: bytes, name: str) -> bool:
        """Whether this key may use this name."""
        names = self._names.get(public)
        return names is not None and (name in names.whole or name.startswith(names.beginnings))

    def names(self, public: bytes) -> tuple[str, ...]:
        """What stands behind a key; nothing when it is not on the list."""
        names = self._names.get(public)
        return names.all if names is not None else ()

    def replace(self, other: AllowList) -> None:
        """Be the other list from now on."""
        self._names = dict(other._names)

    def items(self) -> list[tuple[bytes, tuple[str, ...]]]:
        return sorted((public, names.all) for public, names in self._names.items())


class _Names:
    """The names behind one key: whole ones, and beginnings (they end in ``*``).

    PERF: a machine that plays 10,000 hosts has 20,000 names, and each is looked up at every tick: to look through them
    took the hub 20 s of every 5.
    """

    __slots__ = ("all", "beginnings", "whole")

    def __init__(self, names: Iterable[str]) -> None:
        self.all = tuple(names)
        self.whole = frozenset([name for name in self.all if not name.endswith("*")])
        self.beginnings = tuple([name[:-1] for name in self.all if name.endswith("*")])


class ServerKeys:
    """The hub's key pair and its allow-list."""

    def __init__(self, public: bytes, secret: bytes, allowed: AllowList | None = None) -> None:
        _check_key(public)
        _check_key(secret)
        self.public = public
        self.secret = secret
        self.allowed = allowed or AllowList()

    def __repr__(self) -> str:
        return f"ServerKeys(public={self.public.decode()}, secret=…)"


class PeerKeys:
    """A node's key pair, and the public key by which it knows the hub."""

    def __init__(self, public: bytes, secret: bytes, server_public: bytes) -> None:
        for key in (public, secret, server_public):
            _check_key(key)
        self.public = public
        self.secret = secret
        self.server_public = server_public

    def __repr__(self) -> str:
        return f"PeerKeys(public={self.public.decode()}, secret=…)"


def has_server_keys(folder: Path) -> bool:
    """Whether this is the machine of the hub."""
    return (folder / SERVER_FILE).exists()


def make_server_keys(folder: Path) -> ServerKeys:
    """The hub's keys: read from the folder, or made there the first time. Raises ConfigError."""
    if not has_server_keys(folder):
        public, secret = zmq.curve_keypair()
        write_private(folder / SERVER_FILE, b"%s\n%s\n" % (public, secret))
    return load_server_keys(folder)


def load_server_keys(folder: Path) -> ServerKeys:
    """The hub's keys and its allow-list from files. Raises ConfigError that names the file."""
    public, secret = _read_keys(folder / SERVER_FILE, 2)
    path = folder / ALLOWED_FILE
    return ServerKeys(public, secret, _load_allowed(path) if path.exists() else AllowList())


def save_allowed(folder: Path, allowed: AllowList) -> None:
    """Write the allow-list; whole or not at all."""
    lines = [b"%s %s\n" % (public, " ".join(names).encode()) for public, names in allowed.items()]
    write_private(folder / ALLOWED_FILE, b"".join(lines))


def make_peer_keys(folder: Path, server_public: bytes) -> PeerKeys:
    """A node's keys: read from the folder, or made there the first time. Raises ConfigError.

    A folder made for another hub keeps its pair and takes the new hub's public key.
    """
    path = folder / PEER_FILE
    if path.exists():
        public, secret, known_server = _read_keys(path, 3)
        if known_server == server_public:
            return PeerKeys(public, secret, server_public)
    else:
        public, secret = zmq.curve_keypair()
    keys = PeerKeys(public, secret, server_public)
    write_private(path, b"%s\n%s\n%s\n" % (public, secret, server_public))
    return keys


def load_peer_keys(folder: Path) -> PeerKeys:
    """A node's keys from a file. Raises ConfigError that names the file."""
    public, secret, server_public = _read_keys(folder / PEER_FILE, 3)
    return PeerKeys(public, secret, server_public)


def make_private_folder(folder: Path) -> None:
    """The folder exists; if it had to be made it is of mode 0700."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600, durably, whole or not at all; its folder gets mode 0700."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    write_atomically(path, content, 0o600, durable=True)


def _read_private(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise ConfigError(f"{path} can be read by others (mode {mode:04o}); it must have mode 0600")
            return file.read()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def _read_keys(path: Path, count: int) -> list[bytes]:
    keys = _read_private(path).split()
    if len(keys) != count or any(not _is_key(key) for key in keys):
        raise ConfigError(f"{path} is not a key file: it must hold {count} keys of {KEY_BYTES} characters")
    return keys


def _load_allowed(path: Path) -> AllowList:
    names: dict[bytes, tuple[str, ...]] = {}
    for number, line in enumerate(_read_private(path).splitlines(), start=1):
        if not line.strip():
            continue
        key, *rest = line.split()
        if not _is_key(key):
            raise ConfigError(f"{path}, line {number}: does not begin with a key of {KEY_BYTES} characters")
        try:
            names[key] = tuple(name.decode("ascii") for name in rest)
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}, line {number}: a name is not ASCII") from error
    return AllowList(names)


def _is_key(key: bytes) -> bool:
    return len(key) == KEY_BYTES and key.isascii()


def _check_key(key: bytes) -> None:
    assert _is_key(key), f"a CURVE key has {KEY_BYTES} characters (Z85)"


def public_of(part: zmq.Frame) -> bytes:
    """The key behind a frame, as the Authenticator named it; empty over ipc."""
    try:
        public = part.get("User-Id")
    except zmq.ZMQError:
        return b""
    return public.encode() if isinstance(public, str) else b""


class Authenticator:
    """Answers ZeroMQ's question whether a key may come in (ZAP, RFC 27), on our own loop.

    The answer carries the public key as User-Id, which the hub compares with the name at HELLO.

    PERF: each connection asks once, and ZeroMQ keeps the two pipes on which it did for as long as the connection lives:
    33 KiB of its address space, 6 KiB of its memory. So after many have come the socket they asked gives its place to
    another and is closed, which frees them; then the memory goes back to the system.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], allowed: AllowList, counters: Counters) -> None:
        self._context = context
        self._allowed = allowed
        self._counters = counters
        self._asked = 0  # since the socket was made
        self._asked_s = 0.0  # the last time, of the loop's clock
        self._loop = asyncio.get_running_loop()
        self._before: _Questions | None = None  # closed at the next look
        self._freed = False  # and memory to be given back at the one after it
        self._now = _Questions(context, self._answer)

    def close(self) -> None:
        for questions in (self._before, self._now):
            if questions is not None:
                questions.close()

    def look(self) -> None:
        """To be called now and then: free what connections that came have left."""
        if self._freed:  # ZeroMQ's thread has had the time from one look to the next
            self._freed = False
            self._loop.run_in_executor(None, give_memory_back)
        elif self._before is not None:
            self._before.close()
            self._before, self._freed = None, True
        elif self._asked >= _ASKED_MIN and self._loop.time() - self._asked_s >= _QUIET_S:
            # Whoever asks in the microseconds between is not let in, and connects again.
            self._asked = 0
            self._now.leave()
            self._before, self._now = self._now, _Questions(self._context, self._answer)

    def _answer(self, frames: list[bytes]) -> list[bytes]:
        self._asked += 1
        self._asked_s = self._loop.time()
        # route, empty, version, request id, domain, address, identity, mechanism, credentials…
        route, empty, version, request_id, domain, _address, _identity, mechanism, *credentials = frames
        assert empty == b"" and version == b"1.0", "the question is not ZAP 1.0"
        status, text, user = b"400", b"this key is not on the list", b""
        if domain == ZAP_DOMAIN and mechanism == b"CURVE" and len(credentials) == 1:
            public = z85.encode(credentials[0])
            if self._allowed.knows(public):
                status, text, user = b"200", b"OK", public
        if status != b"200":
            self._counters.refused += 1
        return [route, b"", b"1.0", request_id, status, text, user, b""]


class _Questions:
    """The socket at which ZeroMQ asks."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], answer: Callable[[list[bytes]], list[bytes]]) -> None:
        self._answer = answer
        self._socket = context.socket(zmq.ROUTER)
        self._socket.bind(_ZAP_ADDRESS)
        self._fd = FdSocket(self._socket, self._drain)

    def leave(self) -> None:
        """Give up the place; who has asked here is answered."""
        self._socket.unbind(_ZAP_ADDRESS)

    def close(self) -> None:
        self._fd.close(0)

    def _drain(self, budget: int) -> bool:
        try:
            for _ in range(budget):
                self._socket.send_multipart(self._answer(self._socket.recv_multipart(zmq.DONTWAIT)), zmq.DONTWAIT)
                self._fd.sent()
        except zmq.Again:
            return False
        return True


def give_memory_back() -> None:
    """Have the C library return what is free to the system; nothing where it cannot. Takes milliseconds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
