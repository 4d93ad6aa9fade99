"""What can be asked of images. The bytes themselves never travel through here: they are files of the image store."""

from __future__ import annotations

from nova_fast.model.base import Message, Value
from nova_fast.model.identity import Caller
from nova_fast.model.images import Image, Visibility

#: What a patch may set: text, a number, a truth value, a list of tags, or nothing.
PatchValue = str | int | bool | list[str] | None


class CreateImage(Message, frozen=True):
    """Describe an image; it is ``queued`` until its bytes have arrived. → ImageResult."""

    caller: Caller
    id: str = ""  # "" = choose one
    owner: str = ""  # "" = the caller's project; another only for an admin
    name: str | None = None
    visibility: Visibility = Visibility.SHARED
    disk_format: str | None = None
    container_format: str | None = None
    min_disk_gib: int = 0
    min_ram_mib: int = 0
    protected: bool = False
    hidden: bool = False
    tags: tuple[str, ...] = ()
    properties: dict[str, str] = {}


class PatchOperation(Value, frozen=True):
    """One operation of a JSON patch, its path reduced to the attribute it names."""

    op: str  # add, replace, remove
    name: str
    value: PatchValue = None


class PatchImage(Message, frozen=True):
    """Change attributes and properties, all or none. → ImageResult."""

    caller: Caller
    image_id: str
    operations: tuple[PatchOperation, ...]


class DeleteImage(Message, frozen=True):
    """Remove an image; its file goes after the commit. → ImageResult (the image as it was)."""

    caller: Caller
    image_id: str


class BeginUpload(Message, frozen=True):
    """The caller holds the lock of the image's file: let nobody else upload it. → ImageResult (``saving``)."""

    caller: Caller
    image_id: str


class FinishUpload(Message, frozen=True):
    """The bytes are durable under their name: make the image active. → ImageResult."""

    caller: Caller
    image_id: str
    size: int  # bytes
    virtual_size: int  # bytes
    checksum: str  # MD5, hex
    hash_value: str  # SHA-512, hex


class AbortUpload(Message, frozen=True):
    """The bytes were not accepted: the image waits for others. → ImageResult (``queued``)."""

    caller: Caller
    image_id: str


class SetImageActive(Message, frozen=True):
    """Deactivate an image, or make it active again. → ImageResult."""

    caller: Caller
    image_id: str
    active: bool


class ChangeImageTag(Message, frozen=True):
    """Add or remove one tag. → ImageResult. Removing one that is not there is NotFound."""

    caller: Caller
    image_id: str
    tag: str
    present: bool


class AddImageMember(Message, frozen=True):
    """Offer a shared image to another project. → ImageResult."""

    caller: Caller
    image_id: str
    member: str


class SetImageMember(Message, frozen=True):
    """The offered project accepts, rejects, or thinks again. → ImageResult."""

    caller: Caller
    image_id: str
    member: str
    status: str  # pending, accepted, rejected


class RemoveImageMember(Message, frozen=True):
    """Take an offer back. → ImageResult."""

    caller: Caller
    image_id: str
    member: str


class ImageResult(Message, frozen=True):
    image: Image


COMMANDS = (
    CreateImage,
    PatchImage,
    DeleteImage,
    BeginUpload,
    FinishUpload,
    AbortUpload,
    SetImageActive,
    ChangeImageTag,
    AddImageMember,
    SetImageMember,
    RemoveImageMember,
)
RESULTS = (ImageResult,)
