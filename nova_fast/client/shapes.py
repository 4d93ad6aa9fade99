"""What the SDK gives back and takes: the objects of the REST API with the names of Python.

A field that a newer cloud adds is passed over; one that depends on who asks has a default. Times are aware, in UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """An object as a face shows it."""


class Address(Shape, frozen=True):
    """An address of a server on a network."""

    addr: str
    version: int
    mac: str = msgspec.field(name="OS-EXT-IPS-MAC:mac_addr", default="")
    type: str = msgspec.field(name="OS-EXT-IPS:type", default="fixed")


class Fault(Shape, frozen=True):
    """Why a server is in ERROR."""

    code: int
    message: str
    created: datetime
    details: str = ""


class ServerFlavor(Shape, frozen=True):
    """The flavor a server was made with, as it was then."""

    name: str = msgspec.field(name="original_name")
    vcpus: int
    ram_mib: int = msgspec.field(name="ram")
    disk_gib: int = msgspec.field(name="disk")
    extra_specs: dict[str, str] = {}


class ImageRef(Shape, frozen=True):
    id: str


class Server(Shape, frozen=True):
    """A server, whole."""

    id: str
    name: str
    status: str
    project_id: str = msgspec.field(name="tenant_id")
    user_id: str
    created: datetime
    updated: datetime
    flavor: ServerFlavor
    image: ImageRef | str = ""  # "" = none
    addresses: dict[str, list[Address]] = {}
    metadata: dict[str, str] = {}
    tags: tuple[str, ...] = ()
    description: str | None = None
    key_name: str | None = None
    locked: bool = False
    fault: Fault | None = None
    task_state: str | None = msgspec.field(name="OS-EXT-STS:task_state", default=None)
    power_state: int = msgspec.field(name="OS-EXT-STS:power_state", default=0)
    zone: str = msgspec.field(name="OS-EXT-AZ:availability_zone", default="")
    host: str | None = msgspec.field(name="OS-EXT-SRV-ATTR:host", default=None)  # shown to admins

    @property
    def ips(self) -> list[str]:
        """All its addresses, in the order of its networks."""
        return [one.addr for addresses in self.addresses.values() for one in addresses]


class Flavor(Shape, frozen=True):
    id: str
    name: str
    vcpus: int
    ram_mib: int = msgspec.field(name="ram")
    disk_gib: int = msgspec.field(name="disk")
    ephemeral_gib: int = msgspec.field(name="OS-FLV-EXT-DATA:ephemeral", default=0)
    is_public: bool = msgspec.field(name="os-flavor-access:is_public", default=True)
    description: str | None = None
    extra_specs: dict[str, str] = {}


class Image(Shape, frozen=True):
    id: str
    name: str | None
    status: str
    visibility: str
    owner: str | None = None
    size: int | None = None
    disk_format: str | None = None
    container_format: str | None = None
    min_disk_gib: int = msgspec.field(name="min_disk", default=0)
    min_ram_mib: int = msgspec.field(name="min_ram", default=0)
    tags: tuple[str, ...] = ()


class Network(Shape, frozen=True):
    id: str
    name: str
    status: str
    project_id: str
    subnet_ids: tuple[str, ...] = msgspec.field(name="subnets", default=())
    shared: bool = False
    external: bool = msgspec.field(name="router:external", default=False)
    mtu: int = 0


class Subnet(Shape, frozen=True):
    id: str
    name: str
    network_id: str
    cidr: str
    ip_version: int
    gateway_ip: str | None = None
    enable_dhcp: bool = True


class Host(Shape, frozen=True):
    """A compute host and what of it is taken; shown to admins."""

    id: str
    name: str = msgspec.field(name="hypervisor_hostname")
    state: str  # up, down
    status: str  # enabled, disabled
    type: str = msgspec.field(name="hypervisor_type", default="")
    vcpus: int = 0
    vcpus_used: int = 0
    ram_mib: int = msgspec.field(name="memory_mb", default=0)
    ram_used_mib: int = msgspec.field(name="memory_mb_used", default=0)
    disk_gib: int = msgspec.field(name="local_gb", default=0)
    disk_used_gib: int = msgspec.field(name="local_gb_used", default=0)
    servers: int = msgspec.field(name="running_vms", default=0)


class FilterCount(Shape, frozen=True):
    """How many hosts a filter of the scheduler left."""

    filter: str
    before: int
    after: int


class Capacity(Shape, frozen=True):
    """How many more servers fit: an answer of the scheduler's own table."""

    servers: int
    hosts: int
    first_host: str | None = None
    last_host: str | None = None
    hint: str | None = None  # what would make more fit
    filters: tuple[FilterCount, ...] = ()


class Created(Shape, frozen=True):
    """Servers that were accepted, which means recorded durably; they are built after that."""

    ids: tuple[str, ...] = msgspec.field(name="server_ids")
    reservation_id: str = ""
    admin_password: str = msgspec.field(name="adminPass", default="")  # of each of them; shown this once

    @property
    def id(self) -> str:
        """The id of the first, which of one is the only."""
        return self.ids[0]


class NewServer(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of new servers; ids, or objects that have one."""

    name: str
    flavor: str | Flavor
    image: str | Image
    networks: tuple[str | Network, ...] | str = "auto"  # or "none"
    key_name: str = ""
    user_data: bytes = b""
    metadata: dict[str, str] = {}
    tags: tuple[str, ...] = ()
    description: str = ""
    zone: str = ""
    security_groups: tuple[str, ...] = ()
    hints: dict[str, Any] = {}  # of the scheduler: {"group": …}


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A bare answer, of whatever operation."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)


def id_of(thing: str | Flavor | Image | Network) -> str:
    """The id of a thing, or the id itself."""
    return thing if isinstance(thing, str) else thing.id
