"""Where the cloud is and who one is: given by hand, by environment, or by the file that ``nova-fast up`` writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from nova_fast.config import ConfigError
from nova_fast.hub.keys import PeerKeys

#: The environment: the path of the file.
FILE_VARIABLE = "NOVA_FAST_SDK_FILE"
DEFAULT_FILE = "var/sdk.json"


class Password(msgspec.Struct, frozen=True, kw_only=True):
    """A user by name and password, in a project."""

    username: str
    password: str
    project: str
    user_domain: str = "Default"
    project_domain: str = "Default"

    def __repr__(self) -> str:
        return f"Password(username={self.username!r}, project={self.project!r})"

    def auth(self) -> dict[str, Any]:
        """The body of ``POST /v3/auth/tokens``."""
        user = {"name": self.username, "domain": {"name": self.user_domain}, "password": self.password}
        scope = {"project": {"name": self.project, "domain": {"name": self.project_domain}}}
        return {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}


class ApplicationCredential(msgspec.Struct, frozen=True, kw_only=True):
    """A program that a user has let in."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"ApplicationCredential(id={self.id!r})"

    def auth(self) -> dict[str, Any]:
        """The body of ``POST /v3/auth/tokens``."""
        proof = {"id": self.id, "secret": self.secret}
        return {"auth": {"identity": {"methods": ["application_credential"], "application_credential": proof}}}


Credentials = Password | ApplicationCredential


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All a client needs to know. Without token and credentials it is who its key speaks for, or nobody."""

    addresses: tuple[str, ...]  # of the doors, one for each API worker
    token: str = ""
    credentials: Credentials | None = None  # a new token is fetched with them before the last one ends
    keys: PeerKeys | None = None  # for addresses over tcp
    timeout_s: float = 60.0  # for each call, through restarts of whatever is behind it
    connect_timeout_s: float = 10.0
    max_in_flight: int = 4096  # calls that have no answer yet; who makes more waits

    def __repr__(self) -> str:
        return f"Settings(addresses={self.addresses!r}, credentials={self.credentials!r}, keys={self.keys!r})"


class _File(msgspec.Struct, frozen=True, kw_only=True):
    """What ``nova-fast up`` writes."""

    addresses: tuple[str, ...]
    username: str = ""
    password: str = ""
    project: str = ""
    public_key: str = ""
    secret_key: str = ""
    server_key: str = ""


def read_file(path: str | Path | None = None) -> Settings:
    """The settings of a file: the one named, else that of ``$NOVA_FAST_SDK_FILE``, else ``var/sdk.json``.

    Raises ConfigError.
    """
    where = Path(path or os.environ.get(FILE_VARIABLE) or DEFAULT_FILE)
    try:
        found = msgspec.json.decode(where.read_bytes(), type=_File)
    except OSError as error:
        raise ConfigError(f"cannot read {where}: {error.strerror}; name it with ${FILE_VARIABLE}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: {error}") from error
    keys = None
    if found.secret_key:
        keys = PeerKeys(found.public_key.encode(), found.secret_key.encode(), found.server_key.encode())
    credentials = None
    if found.username:
        credentials = Password(username=found.username, password=found.password, project=found.project)
    return Settings(addresses=found.addresses, credentials=credentials, keys=keys)
