"""What the conductor asks of the other daemons, what they answer, and what they report.

Each message says everything the receiver needs, because a daemon reads no store. Receivers are idempotent: they are
told the wanted state, and doing it twice is doing it once. Results are plain messages; what fails raises a
:class:`~nova_fast.model.errors.NovaFastError` that travels as a Failure.
"""

from __future__ import annotations

from nova_fast.model.base import Message, Value
from nova_fast.model.hosts import Claim, HostResources
from nova_fast.model.states import Action, PowerState
from nova_fast.model.topology import GuestTopology

# ------------------------------------------------------------------------------------------------ compute


class GuestImage(Value, frozen=True):
    """Where the root disk comes from."""

    id: str
    path: str  # file of the image store
    size: int  # bytes
    sha512: str  # hex, checked when the image enters the host's cache
    disk_format: str  # raw, qcow2, iso
    properties: dict[str, str] = {}


class GuestNic(Value, frozen=True):
    """A network card of a guest."""

    port_id: str
    mac_address: str
    bridge: str
    tap: str
    mtu: int


class Guest(Value, frozen=True):
    """Everything a hypervisor driver needs to make or re-make one virtual machine."""

    server_id: str
    domain_name: str
    name: str
    project_id: str
    user_id: str
    vcpus: int
    ram_mib: int
    root_disk_gib: int  # 0 = as large as the image
    ephemeral_gib: int
    swap_mib: int
    image: GuestImage
    nics: tuple[GuestNic, ...]
    config_drive: dict[str, bytes] | None = None  # path inside the drive → content; None = no drive
    extra_specs: dict[str, str] = {}
    topology: GuestTopology | None = None  # the cells and devices of its host that it has; None = none of its own


#: What a compute daemon says is numbered: the low bits grow with each statement, the others name the process.
SEQUENCE_BITS = 32


def is_news(sequence: int, known: int) -> bool:
    """Whether a statement that has just arrived says more of a guest than what is known from its host.

    Of one process the larger number is later. Of two processes the later to arrive is: the hub lets only the newest
    process of a host speak. 0 = not numbered.
    """
    return sequence >> SEQUENCE_BITS != known >> SEQUENCE_BITS or sequence >= known


class GuestState(Message, frozen=True):
    """What the hypervisor says of one guest; the result of most compute tasks."""

    server_id: str
    power_state: PowerState
    sequence: int = 0


class SpawnGuest(Message, frozen=True):
    """Make the guest and start it. → GuestState. A guest that exists already is left running."""

    guest: Guest


class DestroyGuest(Message, frozen=True):
    """Remove every trace of a guest: domain, disks, config drive, console log. → GuestState(NOSTATE)."""

    server_id: str
    domain_name: str


class PowerGuest(Message, frozen=True):
    """Start, stop, reboot, pause, unpause, suspend or resume a guest. → GuestState.

    ``stop`` and a soft reboot ask the guest first (ACPI) and force it after ``grace_s``.
    """

    guest: Guest
    action: Action
    hard: bool = False
    grace_s: float = 10.0


class ReadConsole(Message, frozen=True):
    """The end of a guest's console log. → ConsoleOutput."""

    server_id: str
    domain_name: str
    lines: int | None = None  # None = all that is kept


class ReadServerConsole(Message, frozen=True):
    """api → conductor: the same for a server wherever it is; the face has checked who asks. → ConsoleOutput."""

    server_id: str
    lines: int | None = None


class ConsoleOutput(Message, frozen=True):
    text: str


class CacheAggregateImages(Message, frozen=True):
    """api → conductor: have images on the hosts of an aggregate; the face has checked who asks. → Done at once."""

    number: int
    image_ids: tuple[str, ...]


class CacheImages(Message, frozen=True):
    """conductor → compute: fetch these images before a guest needs them. → Done at once; it is done beside."""

    images: tuple[GuestImage, ...]


class GuestInventory(Message, frozen=True):
    """compute → conductor, when it has (re)connected, and now and then: the guests that are there. → WantedGuests."""

    host: str
    guests: tuple[GuestState, ...]
    sequence: int = 0  # of the moment before which they were looked at


class WantedGuests(Message, frozen=True):
    """Which servers belong on this host. A guest that is not among them is an orphan and is destroyed."""

    server_ids: tuple[str, ...]


class GuestChanged(Message, frozen=True):
    """compute → conductor: a guest changed its state by itself (shut down inside, crashed, killed). → Done."""

    host: str
    server_id: str
    power_state: PowerState
    sequence: int = 0


class HostHeard(Message, frozen=True):
    """The answer to a compute's heartbeat."""

    compare: bool  # the host may have guests that are wanted no more: it is to send its inventory


class HostReport(Message, frozen=True):
    """compute → conductor: the heartbeat. → HostHeard."""

    host: str
    zone: str
    resources: HostResources
    cpu_ratio: float = 4.0
    ram_ratio: float = 1.0
    disk_ratio: float = 1.0
    reserved_ram_mib: int = 512


class ServiceReport(Message, frozen=True):
    """Any other daemon → conductor: its heartbeat. → Done."""

    name: str
    binary: str
    host: str
    zone: str


class Done(Message, frozen=True):
    """It is done, and there is nothing more to say."""


# ------------------------------------------------------------------------------------------------ network


class SubnetSpec(Value, frozen=True):
    id: str
    ip_version: int
    cidr: str
    gateway_ip: str | None
    enable_dhcp: bool
    dns_nameservers: tuple[str, ...] = ()
    host_routes: tuple[tuple[str, str], ...] = ()  # (destination, nexthop)


class PortSpec(Value, frozen=True):
    """A port that must work on this host."""

    id: str
    tap: str
    mac_address: str
    addresses: tuple[str, ...]  # IPv4 and IPv6, without prefix
    hostname: str
    server_id: str
    project_id: str
    security_groups: tuple[str, ...]
    port_security_enabled: bool = True
    allowed_address_pairs: tuple[tuple[str, str], ...] = ()  # (ip or cidr, mac)


class NetworkSpec(Value, frozen=True):
    """A network that must exist on this host, with all its ports here."""

    id: str
    number: int  # conntrack zone
    bridge: str
    namespace: str
    mtu: int
    subnets: tuple[SubnetSpec, ...]
    ports: tuple[PortSpec, ...]


class RuleSpec(Value, frozen=True):
    """One security-group rule."""

    direction: str  # ingress, egress
    ethertype: str  # IPv4, IPv6
    protocol: str | None = None
    port_range_min: int | None = None
    port_range_max: int | None = None
    remote_ip_prefix: str | None = None
    remote_group_id: str | None = None


class GroupSpec(Value, frozen=True):
    """A security group that ports on this host use, or that a rule of such a group names."""

    id: str
    rules: tuple[RuleSpec, ...]
    members: tuple[str, ...]  # fixed addresses (v4 and v6) of all ports in the group, on every host


class ApplyNetworks(Message, frozen=True):
    """The whole wanted state of the network daemon of a host. → NetworksApplied.

    Level-triggered: what is not in it is taken down, what is missing is put up, what differs is changed. Applying it
    twice, or skipping all but the last, gives the same end. Port rules are in place before the answer.
    """

    host: str
    generation: int  # the store generation it was made from
    networks: tuple[NetworkSpec, ...]
    groups: tuple[GroupSpec, ...]


class NetworksApplied(Message, frozen=True):
    host: str
    generation: int
    failed: dict[str, str] = {}  # network id → what could not be done, in words


class MetadataRequest(Message, frozen=True):
    """network → conductor: a guest asks 169.254.169.254. → MetadataAnswer.

    Who asks follows from the network whose namespace took the connection and the address it came from, and from
    nothing else.
    """

    network_id: str
    address: str
    method: str
    path: str
    body: bytes = b""


class MetadataAnswer(Message, frozen=True):
    status: int
    content_type: str
    body: bytes


# ------------------------------------------------------------------------------------------------ scheduler


class GroupRule(Value, frozen=True):
    """The server group of a server, and what it asks of the hosts of its members."""

    id: str
    policy: str  # affinity, anti-affinity, soft-affinity, soft-anti-affinity
    max_servers_per_host: int = 1  # of anti-affinity


class PlacementRequest(Value, frozen=True):
    """A server that needs a host, and others that want the same."""

    server_id: str
    claim: Claim
    zone: str = ""  # "" = any
    architecture: str = ""  # "" = any
    excluded_hosts: tuple[str, ...] = ()
    requested_host: str = ""
    hints: dict[str, str | list[str]] = {}
    extra_specs: dict[str, str] = {}
    image_properties: dict[str, str] = {}
    project_id: str = ""
    flavor_name: str = ""
    image_id: str = ""
    group: GroupRule | None = None
    alike: tuple[str, ...] = ()  # further servers with the same wishes
    all_or_none: bool = False  # no host for any of them unless there is one for each
    vcpus: int = 0  # the guest's own, whatever is claimed for it; 0 = as claimed
    ram_mib: int = 0  # the same


class SelectHosts(Message, frozen=True):
    """conductor → scheduler: choose a host for each and claim it at once. → Selection."""

    requests: tuple[PlacementRequest, ...]


class FilterCount(Value, frozen=True):
    """How many hosts were left before and after a filter."""

    filter: str
    before: int
    after: int


class HostWeight(Value, frozen=True):
    """A host that passed all filters, and what it weighed."""

    host: str
    weight: float


class Placement(Message, frozen=True):
    """The answer for one server: a host, or why none."""

    server_id: str
    host: str = ""  # "" = no valid host
    weight: float = 0.0
    alternates: tuple[str, ...] = ()
    filters: tuple[FilterCount, ...] = ()  # filled when there is no host
    hint: str = ""  # what would make it fit
    candidates: int = 0  # hosts that passed all filters; 0 beside a host = a choice that was made before, repeated
    top: tuple[HostWeight, ...] = ()  # the best of them with the winner, best first
    policy: str = ""  # that chose
    claim: Claim | None = None  # what is taken there, where it is not just what was asked for


class Selection(Message, frozen=True):
    placements: tuple[Placement, ...]


class ReleaseClaims(Message, frozen=True):
    """conductor → scheduler: these choices were not committed. → Done."""

    server_ids: tuple[str, ...]


class AskCapacity(Message, frozen=True):
    """api or cli → conductor: how many more servers fit; the face has checked who asks. → Capacity."""

    flavor: str  # id or name
    zone: str = ""  # "" = any
    image: str = ""  # id or name; "" = one that runs anywhere
    group_policy: str = ""  # of a new server group for all of them; "" = none
    max_servers_per_host: int = 1  # with anti-affinity


class CountCapacity(Message, frozen=True):
    """conductor → scheduler: how many more servers with these wishes fit; nothing is claimed. → Capacity."""

    request: PlacementRequest  # its group, if any, is a new one without members


class Capacity(Message, frozen=True):
    """How many more fit, and where they would go."""

    servers: int
    hosts: int  # on which they fit
    first: str = ""  # the host of the first; "" = none, or the policy draws
    last: str = ""  # the host of the last; "" = not looked for
    hint: str = ""  # what would make one fit, or why a host is not named
    filters: tuple[FilterCount, ...] = ()  # filled when none fits
