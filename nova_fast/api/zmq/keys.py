"""Who may come in over tcp: CURVE keys of clients, and for whom a key speaks.

The door has a key pair and an allow-list of its own in ``keys/sdk``, so no key of a client is worth anything at the
conductor's hub. A line of the list names a key and the family of peer names made from it, which no other key may use::

    <public key> client.<name of the key>-* user=<id> project=<id>

With ``user`` and ``project`` the key speaks for that user in that project wherever a message has no token. It can do
what he can do now, not what he could when the key was let in: he is looked at at each request, as behind any token.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import zmq

from nova_fast.api.framework.request import Runtime
from nova_fast.config import Config, ConfigError
from nova_fast.hub.keys import (
    ALLOWED_FILE,
    ServerKeys,
    key_name,
    load_server_keys,
    make_private_folder,
    make_server_keys,
    save_allowed,
)
from nova_fast.identity.grants import token_key
from nova_fast.identity.tokens import TokenFacts, new_audit_id, seal

log = logging.getLogger(__name__)

TOKEN_LIFE_S = 600
_US = 1_000_000


def door_keys(config: Config) -> ServerKeys | None:
    """The keys of this machine's doors, made the first time; None when they are on sockets. Raises ConfigError."""
    if not config.sdk.address.startswith("tcp://"):
        return None
    with _folder(config) as folder:
        return make_server_keys(folder)


def new_key() -> tuple[bytes, bytes]:
    """A key pair for a client: public, secret."""
    return zmq.curve_keypair()


def allow(config: Config, public: bytes, user_id: str = "", project_id: str = "") -> None:
    """Let a key in, and let it speak for a user in a project; workers see it within a second. Raises ConfigError."""
    with _folder(config) as folder:
        keys = make_server_keys(folder)
        bound = [f"user={user_id}", f"project={project_id}"] if user_id else []
        keys.allowed.allow(public, [f"client.{key_name(public)}-*", *bound])
        save_allowed(folder, keys.allowed)


def forbid(config: Config, public: bytes) -> bool:
    """Let a key in no more; links it has are cut within seconds. Whether it was let in. Raises ConfigError."""
    with _folder(config) as folder:
        keys = make_server_keys(folder)
        known = keys.allowed.knows(public)
        keys.allowed.forbid(public)
        save_allowed(folder, keys.allowed)
        return known


@contextlib.contextmanager
def _folder(config: Config) -> Iterator[Path]:
    """The folder of the keys, for one process at a time: workers start at the same moment."""
    folder = config.sdk_keys_path
    make_private_folder(folder)
    with (folder / "lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield folder


class KeyTokens:
    """The list as it is now, and tokens for the keys on it; none of them leaves the worker."""

    def __init__(self, keys: ServerKeys | None, runtime: Runtime) -> None:
        self._keys = keys
        self._runtime = runtime
        self._path = runtime.config.sdk_keys_path / ALLOWED_FILE
        self._stamp = (0, 0)
        self._tokens: dict[bytes, tuple[int, bytes]] = {}  # key → when to make another, token

    def look(self) -> None:
        """Read the list again when it was changed. One that cannot be read changes nothing."""
        if self._keys is None:
            return
        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_ino)
        except FileNotFoundError:
            stamp = (0, 0)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            fresh = load_server_keys(self._path.parent).allowed
        except ConfigError as error:
            log.error("the list of the SDK's keys stays as it was: %s", error)
            return
        self._keys.allowed.replace(fresh)
        self._tokens.clear()

    def token_of(self, public: bytes) -> bytes:
        """A token for whom this key speaks; empty when it speaks for nobody."""
        if not public or self._keys is None:
            return b""
        now_us = time.time_ns() // 1000
        until_us, token = self._tokens.get(public, (0, b""))
        if now_us >= until_us:
            token = self._make(public, now_us)
            self._tokens[public] = (now_us + TOKEN_LIFE_S // 2 * _US, token)
        return token

    def _make(self, public: bytes, now_us: int) -> bytes:
        assert self._keys is not None
        bound = dict(name.split("=", 1) for name in self._keys.allowed.names(public) if "=" in name)
        if "user" not in bound or "project" not in bound:
            return b""
        facts = TokenFacts(
            user_id=bound["user"],
            methods=("token",),
            scope_type="project",
            scope_id=bound["project"],
            issued_at_us=now_us,
            expires_at_us=now_us + TOKEN_LIFE_S * _US,
            audit_id=new_audit_id(),
        )
        with self._runtime.store.snapshot() as snapshot:
            return seal(token_key(snapshot), facts).encode()
