"""What can be asked of servers."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, UnsetType

from nova_fast.model.base import Message, Value
from nova_fast.model.identity import Caller
from nova_fast.model.servers import Server
from nova_fast.model.states import Action, VmState


class RequestedNic(Value, frozen=True):
    """One network card asked for: a network (perhaps with an address) or an existing port."""

    network_id: str = ""
    port_id: str = ""
    fixed_ip: str = ""
    tag: str = ""


class CreateServers(Message, frozen=True):
    """Accept one or more equal servers. → ServersCreated.

    ``networks`` is a list of cards, ``none``, ``auto`` (get me the one there is; an error when there is none) or
    ``default`` (the same before microversion 2.37: no card when there is none).
    """

    caller: Caller
    name: str
    flavor_id: str
    image_id: str
    networks: tuple[RequestedNic, ...] | Literal["none", "auto", "default"]
    min_count: int = 1
    max_count: int = 1
    multi_name: bool = False  # names get -1, -2, …
    hostname: str | None = None
    description: str | None = None
    key_name: str | None = None
    user_data: bytes | None = None  # decoded
    config_drive: bool = False
    zone: str = ""
    requested_host: str = ""
    metadata: dict[str, str] = {}
    tags: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()  # names or ids; () = default
    hints: dict[str, str | list[str]] = {}
    disk_config: str = "MANUAL"
    access_ip_v4: str = ""
    access_ip_v6: str = ""
    admin_password: str = ""
    group_id: str = ""  # the server group to join
    pci_aliases: tuple[str, ...] | None = None  # that flavors may name; None = whoever asks does not know


class ServersCreated(Message, frozen=True):
    server_ids: tuple[str, ...]
    reservation_id: str


class DeleteServer(Message, frozen=True):
    """Remove a server and everything of it. → Accepted. Asked again, it is the same deletion."""

    caller: Caller
    server_id: str


class ActOnServer(Message, frozen=True):
    """A power action. → Accepted."""

    caller: Caller
    server_id: str
    action: Action
    hard: bool = False


class UpdateServer(Message, frozen=True):
    """Change what a user may name. → ServerResult."""

    caller: Caller
    server_id: str
    name: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    hostname: str | UnsetType = UNSET
    disk_config: str | UnsetType = UNSET
    access_ip_v4: str | UnsetType = UNSET
    access_ip_v6: str | UnsetType = UNSET


class LockServer(Message, frozen=True):
    """Lock or unlock against changes by anyone but an admin. → Accepted."""

    caller: Caller
    server_id: str
    locked: bool
    reason: str | None = None


class ResetServerState(Message, frozen=True):
    """An admin says what a server's state is. → Accepted."""

    caller: Caller
    server_id: str
    vm_state: VmState


class SetServerMetadata(Message, frozen=True):
    """Merge into, or replace, the metadata. → ServerResult."""

    caller: Caller
    server_id: str
    metadata: dict[str, str]
    replace: bool = False


class DeleteServerMetadata(Message, frozen=True):
    """Remove one key. → ServerResult. Raises NotFound when it is not there."""

    caller: Caller
    server_id: str
    key: str


class SetServerTags(Message, frozen=True):
    """Replace all tags. → ServerResult."""

    caller: Caller
    server_id: str
    tags: tuple[str, ...]


class ChangeServerTag(Message, frozen=True):
    """Add or remove one tag. → ServerResult. Removing one that is not there is NotFound."""

    caller: Caller
    server_id: str
    tag: str
    present: bool


class Accepted(Message, frozen=True):
    """It is recorded, and will be done."""


class ServerResult(Message, frozen=True):
    server: Server
    created: bool = False  # a tag that was not there before


COMMANDS = (
    CreateServers,
    DeleteServer,
    ActOnServer,
    UpdateServer,
    LockServer,
    ResetServerState,
    SetServerMetadata,
    DeleteServerMetadata,
    SetServerTags,
    ChangeServerTag,
)
RESULTS = (ServersCreated, Accepted, ServerResult)
