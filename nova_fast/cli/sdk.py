"""The file that tells a program with the SDK where the cloud is and who it is: written anew by each ``up``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from nova_fast.cli.credentials import PRIVATE_MODE, Credentials, give_to_caller_of_sudo
from nova_fast.cli.processes import write_atomically
from nova_fast.config import Config


def write_sdk_file(config: Config, credentials: Credentials) -> Path:
    """``sdk.json`` for the first administrator. Raises ConfigError, OSError."""
    path = config.state_path / "sdk.json"
    content: dict[str, Any] = {
        "addresses": [config.sdk_address(worker) for worker in range(config.worker_count)],
        "username": credentials.username,
        "password": credentials.password,
        "project": credentials.project,
    }
    if config.sdk.address.startswith("tcp://"):
        content |= _own_key(config, path)
    write_atomically(path, msgspec.json.format(msgspec.json.encode(content)) + b"\n", PRIVATE_MODE)
    give_to_caller_of_sudo(path)
    return path


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
    return {"public_key": public.decode(), "secret_key": secret.decode(), "server_key": keys.public.decode()}
