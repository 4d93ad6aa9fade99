"""Images: what servers boot from."""

from __future__ import annotations

import enum

from nova_fast.model.base import Record


class ImageStatus(enum.StrEnum):
    QUEUED = "queued"
    SAVING = "saving"
    ACTIVE = "active"
    DEACTIVATED = "deactivated"
    KILLED = "killed"


class Visibility(enum.StrEnum):
    PUBLIC = "public"
    PRIVATE = "private"
    SHARED = "shared"
    COMMUNITY = "community"


#: Formats whose content we recognise and check.
DISK_FORMATS = ("raw", "qcow2", "iso", "vmdk", "vdi", "vhd", "vhdx", "ami", "ari", "aki", "ploop")
CONTAINER_FORMATS = ("bare", "ovf", "ova", "docker", "ami", "ari", "aki", "compressed")
#: Formats a guest can boot from here; others are refused at upload.
BOOTABLE_FORMATS = ("raw", "qcow2", "iso")


class Image(Record, frozen=True):
    """The description of an image; its bytes are a file of the image store named by its id."""

    id: str
    project_id: str  # the owner
    name: str | None
    status: ImageStatus
    visibility: Visibility
    disk_format: str | None
    container_format: str | None
    created_at_us: int
    updated_at_us: int
    size: int | None = None  # bytes of the file
    virtual_size: int | None = None  # bytes the guest sees
    checksum: str | None = None  # MD5, hex
    hash_value: str | None = None  # SHA-512, hex
    min_disk_gib: int = 0
    min_ram_mib: int = 0
    protected: bool = False
    hidden: bool = False
    tags: tuple[str, ...] = ()
    properties: dict[str, str] = {}
    members: dict[str, str] = {}  # project → pending, accepted, rejected
