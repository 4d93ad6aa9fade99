"""The first user: a generated password, and the files that hand it to the person and to the OpenStack tools.

``admin-password`` is the truth (the conductor reads it when it founds the cloud); ``clouds.yaml`` and ``openrc`` are
written anew at each start, because ports and addresses may have changed. All three are readable by their owner only.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
from pathlib import Path

import msgspec

from nova_fast.config import Config
from nova_fast.files import write_atomically

CLOUD_NAME = "nova-fast"
PRIVATE_MODE = 0o600


class Credentials(msgspec.Struct, frozen=True):
    """How the first administrator logs in."""

    auth_url: str
    region: str
    password: str
    password_file: Path
    clouds_file: Path
    openrc_file: Path
    username: str = "admin"
    project: str = "admin"
    domain: str = "Default"

    def __repr__(self) -> str:
        """Without the password: a traceback or a log line must not show it."""
        return f"Credentials(auth_url={self.auth_url!r}, username={self.username!r})"


def ensure_credentials(config: Config) -> Credentials:
    """Make the password at the first start, and write the files that a user needs; idempotent.

    Raises OSError when the state folder cannot be written.
    """
    folder = config.state_path
    folder.mkdir(parents=True, exist_ok=True)
    credentials = Credentials(
        auth_url=f"http://{url_host(config.public_host)}:{config.api.identity_port}/v3",
        region=config.region,
        password=_ensure_password(folder / "admin-password"),
        password_file=folder / "admin-password",
        clouds_file=folder / "clouds.yaml",
        openrc_file=folder / "openrc",
    )
    for path, content in (
        (credentials.clouds_file, clouds_yaml(credentials)),
        (credentials.openrc_file, openrc(credentials)),
    ):
        write_atomically(path, content.encode(), PRIVATE_MODE)
    for path in (credentials.password_file, credentials.clouds_file, credentials.openrc_file):
        give_to_caller_of_sudo(path)
    return credentials


def url_host(host: str) -> str:
    """A host as it stands in a URL: IPv6 addresses in brackets (RFC 3986, 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def clouds_yaml(credentials: Credentials) -> str:
    """The ``clouds.yaml`` of openstacksdk; strings are quoted as JSON, which is YAML."""
    lines = [
        "clouds:",
        f"  {CLOUD_NAME}:",
        "    auth:",
        *(f"      {name}: {json.dumps(value)}" for name, value in _auth(credentials).items()),
        f"    region_name: {json.dumps(credentials.region)}",
        "    identity_api_version: 3",
        "    interface: public",
    ]
    return "\n".join(lines) + "\n"


def openrc(credentials: Credentials) -> str:
    """The same for a shell: ``. var/openrc``."""
    values = {f"OS_{name.upper()}": value for name, value in _auth(credentials).items()}
    values |= {"OS_REGION_NAME": credentials.region, "OS_IDENTITY_API_VERSION": "3", "OS_INTERFACE": "public"}
    return "unset OS_CLOUD\n" + "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())


def _auth(credentials: Credentials) -> dict[str, str]:
    return {
        "auth_url": credentials.auth_url,
        "username": credentials.username,
        "password": credentials.password,
        "project_name": credentials.project,
        "user_domain_name": credentials.domain,
        "project_domain_name": credentials.domain,
    }


def _ensure_password(path: Path) -> str:
    """The password of the file; made if there is none. Of two that make it at once, one wins and both read the same."""
    if not path.exists():
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        write_atomically(temporary, f"{secrets.token_urlsafe(24)}\n".encode(), PRIVATE_MODE)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass  # the other one was faster
        finally:
            temporary.unlink()
    password = path.read_text().strip()
    if not password:
        raise OSError(f"{path} is empty: write the admin password into it, or remove it before the first start")
    return password


def give_to_caller_of_sudo(path: Path) -> None:
    """Let the person who typed sudo read what was made for them."""
    if os.geteuid() == 0 and (user := os.environ.get("SUDO_UID", "")).isdecimal():
        os.chown(path, int(user), int(os.environ.get("SUDO_GID", "-1")))
