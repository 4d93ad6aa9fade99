"""The files that tell programs with the SDK where the cloud is and who they are, and the keys in them.

``up`` writes ``sdk.json`` for the first administrator of this machine. ``sdk-key`` lets other machines in over tcp: it
makes a key, puts it on the doors' list, and writes a file to be carried there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from nova_fast.cli.credentials import PRIVATE_MODE, Credentials, give_to_caller_of_sudo
from nova_fast.config import Config, ConfigError
from nova_fast.files import write_atomically
from nova_fast.model.errors import Conflict, NotFound

_ANYWHERE = ("tcp://0.0.0.0:", "tcp://*:", "tcp://[::]:")


def write_sdk_file(config: Config, credentials: Credentials) -> Path:
    """``sdk.json`` for the first administrator. Raises ConfigError, OSError."""
    path = config.state_path / "sdk.json"
    content: dict[str, Any] = {
        "addresses": _addresses(config),
        "username": credentials.username,
        "password": credentials.password,
        "project": credentials.project,
    }
    if _is_tcp(config):
        content |= _own_key(config, path)
    _write(path, content)
    return path


def allow_key(config: Config, path: Path, user: str, project: str) -> int:
    """Make a key, let it in and write its file; with user and project it speaks for him wherever there is no token.

    Raises ConfigError when the doors are not on tcp, Conflict when the file is there, NotFound for who is not.
    """
    from nova_fast.api.zmq.keys import allow, new_key

    _check_tcp(config)
    if path.exists():
        raise Conflict(f"{path} is there already", hint="each key has a file of its own: name another")
    bound = _who(config, user, project) if user or project else ("", "")
    public, secret = new_key()
    allow(config, public, *bound)
    content = {"addresses": _addresses(config), **_shown(config, public, secret)}
    _write(path, content)
    print(f"nova-fast: {path} lets its holder in; take it to where the program runs (export NOVA_FAST_SDK_FILE=…)")
    return 0


def forbid_key(config: Config, path: Path) -> int:
    """Let the key of a file in no more; links it has are cut within seconds. Raises ConfigError, NotFound."""
    from nova_fast.api.zmq.keys import forbid
    from nova_fast.client.settings import read_file

    _check_tcp(config)
    keys = read_file(path).keys
    if keys is None or not forbid(config, keys.public):
        raise NotFound(f"the key of {path} is not on the list", code="key_not_found")
    print(f"nova-fast: the key of {path} is let in no more")
    return 0


def _who(config: Config, user: str, project: str) -> tuple[str, str]:
    """The ids of a user and a project that are named by id or, in the domain Default, by name. Raises NotFound."""
    from nova_fast.model.identity import DEFAULT_DOMAIN_ID
    from nova_fast.queries import identity
    from nova_fast.state.store import Store

    store = Store.open(config.store_path, readonly=True)
    try:
        with store.snapshot() as reader:
            found = identity.user(reader, user) or identity.user_by_name(reader, DEFAULT_DOMAIN_ID, user)
            place = identity.project(reader, project) or identity.project_by_name(reader, DEFAULT_DOMAIN_ID, project)
    finally:
        store.close()
    if found is None or place is None:
        missing = f"user {user!r}" if found is None else f"project {project!r}"
        raise NotFound(f"there is no {missing}", hint="name both: --user NAME --project NAME")
    return found.id, place.id


def _addresses(config: Config) -> list[str]:
    """The doors as a client reaches them."""
    addresses = [config.sdk_address(worker) for worker in range(config.worker_count)]
    for anywhere in _ANYWHERE:
        addresses = [address.replace(anywhere, f"tcp://{config.public_host}:") for address in addresses]
    return addresses


def _is_tcp(config: Config) -> bool:
    return config.sdk.address.startswith("tcp://")


def _check_tcp(config: Config) -> None:
    if not _is_tcp(config):
        raise ConfigError("sdk.address is no tcp address: without one only this machine's own user comes in")


def _own_key(config: Config, path: Path) -> dict[str, str]:
    """This machine's own key, let in; the one of the file when it has one."""
    from nova_fast.api.zmq.keys import allow, door_keys, new_key  # brings ZeroMQ, which nothing else here needs

    keys = door_keys(config)
    assert keys is not None
    known = msgspec.json.decode(path.read_bytes()) if path.exists() else {}
    if "secret_key" in known:
        public, secret = known["public_key"].encode(), known["secret_key"].encode()
    else:
        public, secret = new_key()
    if not keys.allowed.knows(public):
        allow(config, public)
    return _shown(config, public, secret)


def _shown(config: Config, public: bytes, secret: bytes) -> dict[str, str]:
    from nova_fast.api.zmq.keys import door_keys

    keys = door_keys(config)
    assert keys is not None
    return {"public_key": public.decode(), "secret_key": secret.decode(), "server_key": keys.public.decode()}


def _write(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, msgspec.json.format(msgspec.json.encode(content)) + b"\n", PRIVATE_MODE)
    give_to_caller_of_sudo(path)
