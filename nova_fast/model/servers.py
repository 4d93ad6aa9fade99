"""Servers, their key pairs and the record of what was done to them."""

from __future__ import annotations

from nova_fast.model.base import Record, Value
from nova_fast.model.flavors import Flavor
from nova_fast.model.hosts import Claim, claim_of
from nova_fast.model.states import PowerState, TaskState, VmState


class ServerKey(Value, frozen=True):
    """The key pair a server was created with; a copy, so that it outlives the key pair."""

    name: str
    type: str
    public_key: str


class Fault(Value, frozen=True):
    """Why a server is in ERROR, in words a person can act on."""

    code: int  # an HTTP status, as in the API
    message: str
    details: str
    created_at_us: int


class Server(Record, frozen=True):
    """A virtual machine as its owner sees it.

    ``host`` is set in the transaction that claims the host's resources and cleared in the one that returns them, so
    the claims of a host are by definition the servers that carry its name.
    """

    id: str  # UUID
    number: int  # 1, 2, 3, … in this cloud: names the libvirt domain instance-%08x and the EC2 id
    project_id: str
    user_id: str
    name: str
    hostname: str
    created_at_us: int
    updated_at_us: int
    vm_state: VmState
    task_state: TaskState | None
    power_state: PowerState
    flavor: Flavor
    image_id: str
    image_properties: dict[str, str]
    reservation_id: str
    launch_index: int = 0
    host: str = ""
    zone: str = ""  # zone asked for; "" = any
    launched_at_us: int = 0
    terminated_at_us: int = 0
    description: str | None = None
    key: ServerKey | None = None
    metadata: dict[str, str] = {}
    tags: tuple[str, ...] = ()
    has_user_data: bool = False  # the bytes are in the user_data table
    config_drive: bool = False
    disk_config: str = "MANUAL"
    access_ip_v4: str = ""
    access_ip_v6: str = ""
    locked: bool = False
    locked_reason: str | None = None
    scheduler_hints: dict[str, str | list[str]] = {}
    fault: Fault | None = None
    requested_host: str = ""  # an admin asked for this host
    admin_locked: bool = False  # locked by an admin: the owner may not unlock
    observed_at_us: int = 0  # when its host last told us what its guest is; steady time
    observed_sequence: int = 0  # the number of that statement, see model.tasks
    group_id: str = ""  # its server group
    claimed: Claim | None = None  # what it takes of its host, where its flavor alone does not say that

    @property
    def claim(self) -> Claim:
        """What it takes of its host."""
        return self.claimed or claim_of(self.flavor)

    @property
    def wish(self) -> Claim:
        """What it is to take of a host that is yet to be chosen."""
        return claim_of(self.flavor, self.image_properties)

    @property
    def domain_name(self) -> str:
        """The name of the libvirt domain."""
        return f"instance-{self.number:08x}"


class UserData(Record, frozen=True):
    """What a user hands to cloud-init; kept apart because it is large and rarely read."""

    server_id: str
    data: bytes  # decoded, at most 65,535 bytes encoded


class KeyPair(Record, frozen=True):
    """A public key a user may put into servers; the private half is never kept."""

    user_id: str
    name: str
    type: str  # ssh or x509
    public_key: str
    fingerprint: str
    created_at_us: int
    number: int = 0


class ActionEvent(Value, frozen=True):
    """One step of an action as the API shows it."""

    event: str
    start_at_us: int
    finish_at_us: int = 0
    result: str | None = None  # Success, Error
    host: str = ""
    details: str | None = None


class ServerAction(Record, frozen=True):
    """One entry of ``os-instance-actions``: who asked for what, when, and how it ended."""

    server_id: str
    request_id: str  # req-<uuid>
    action: str
    user_id: str
    project_id: str
    start_at_us: int
    updated_at_us: int
    message: str | None = None  # "Error" when it failed
    events: tuple[ActionEvent, ...] = ()
