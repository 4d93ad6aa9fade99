"""Describing, changing, sharing and removing images.

A queued image has no bytes; an upload makes it ``saving``, and ``active`` once the bytes are durable under the image's
id. Whoever may not see an image is told it does not exist; whoever sees it and
is not its owner (or an admin) is refused.
"""

from __future__ import annotations

import msgspec

from nova_fast.commands.images_patch import apply_patch, check_new_properties
from nova_fast.commands.registry import command
from nova_fast.model.commands.images import (
    AbortUpload,
    AddImageMember,
    BeginUpload,
    ChangeImageTag,
    CreateImage,
    DeleteImage,
    FinishUpload,
    ImageResult,
    PatchImage,
    RemoveImageMember,
    SetImageActive,
    SetImageMember,
)
from nova_fast.model.errors import BadRequest, Conflict, Forbidden, NotFound, OverQuota
from nova_fast.model.identity import Caller
from nova_fast.model.images import Image, ImageStatus, Visibility
from nova_fast.queries import images
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

MEMBERS_MAX = 128
TAGS_MAX = 128
MEMBER_STATUSES = ("pending", "accepted", "rejected")


@command(CreateImage)
def create_image(tx: Transaction, request: CreateImage) -> ImageResult:
    """Describe an image. Raises Conflict when the id is taken, Forbidden for what only an admin may do."""
    caller = request.caller
    owner = request.owner or caller.project_id
    if not owner:
        raise Forbidden("You are not permitted to create images without a project.", code="no_project")
    if owner != caller.project_id and not caller.is_admin:
        raise Forbidden(f"You are not permitted to create images owned by '{owner}'.", code="foreign_owner")
    check_visibility(request.visibility, caller)
    check_new_properties(request.properties)
    image_id = request.id or tx.new_uuid()
    if tx.get(tables.IMAGES, image_id) is not None:
        raise Conflict(f"Image ID {image_id} already exists!", code="image_exists", field="id")
    image = Image(
        id=image_id,
        project_id=owner,
        name=request.name,
        status=ImageStatus.QUEUED,
        visibility=request.visibility,
        disk_format=request.disk_format,
        container_format=request.container_format,
        created_at_us=tx.now_us,
        updated_at_us=tx.now_us,
        min_disk_gib=request.min_disk_gib,
        min_ram_mib=request.min_ram_mib,
        protected=request.protected,
        hidden=request.hidden,
        tags=tuple(dict.fromkeys(request.tags)),
        properties=request.properties,
    )
    tx.insert(tables.IMAGES, image)
    return ImageResult(image=image)


@command(PatchImage)
def patch_image(tx: Transaction, request: PatchImage) -> ImageResult:
    """Change attributes and properties; one operation that cannot be done undoes all."""
    image = owned(tx, request.image_id, request.caller)
    changed = apply_patch(image, request.operations, request.caller)
    if changed.visibility is not image.visibility:
        check_visibility(changed.visibility, request.caller)
        if changed.visibility is not Visibility.SHARED:
            changed = msgspec.structs.replace(changed, members={})
    return _saved(tx, changed)


@command(DeleteImage)
def delete_image(tx: Transaction, request: DeleteImage) -> ImageResult:
    """Remove an image, also one that servers were made from: they have their own disks.

    Raises Forbidden when it is protected.
    """
    image = owned(tx, request.image_id, request.caller)
    if image.protected:
        raise Forbidden(
            f"Image {image.id} is protected and cannot be deleted.", code="image_protected", hint="Unprotect it first."
        )
    tx.delete(tables.IMAGES, image.id)
    return ImageResult(image=image)


@command(BeginUpload)
def begin_upload(tx: Transaction, request: BeginUpload) -> ImageResult:
    """Reserve the upload for whoever holds the lock of the image's file.

    Raises Conflict when the image has bytes, BadRequest without formats. An image that is ``saving`` was left so by an
    upload that died: the lock says that nobody uploads it now.
    """
    image = owned(tx, request.image_id, request.caller)
    if image.status not in (ImageStatus.QUEUED, ImageStatus.SAVING):
        raise Conflict(
            f"Image status transition from {image.status.value} to saving is not allowed.", code="image_not_queued"
        )
    for field in ("disk_format", "container_format"):
        if getattr(image, field) is None:
            raise BadRequest(f"Property {field} must be set prior to saving data.", field=field)
    return _saved(tx, msgspec.structs.replace(image, status=ImageStatus.SAVING))


@command(FinishUpload)
def finish_upload(tx: Transaction, request: FinishUpload) -> ImageResult:
    """Make the image active. Raises NotFound when it was deleted meanwhile, Conflict when nobody was uploading."""
    image = owned(tx, request.image_id, request.caller)
    if image.status is not ImageStatus.SAVING:
        raise Conflict(f"Nobody is uploading image {image.id}.", code="image_not_saving")
    changed = msgspec.structs.replace(
        image,
        status=ImageStatus.ACTIVE,
        size=request.size,
        virtual_size=request.virtual_size,
        checksum=request.checksum,
        hash_value=request.hash_value,
    )
    return _saved(tx, changed)


@command(AbortUpload)
def abort_upload(tx: Transaction, request: AbortUpload) -> ImageResult:
    """Let the image wait for other bytes. One that is not being uploaded is left as it is."""
    image = owned(tx, request.image_id, request.caller)
    if image.status is ImageStatus.SAVING:
        return _saved(tx, msgspec.structs.replace(image, status=ImageStatus.QUEUED))
    return ImageResult(image=image)


@command(SetImageActive)
def set_image_active(tx: Transaction, request: SetImageActive) -> ImageResult:
    """Deactivate or reactivate. Doing it twice is doing it once; an image without bytes is neither (Forbidden)."""
    image = owned(tx, request.image_id, request.caller)
    if image.status not in (ImageStatus.ACTIVE, ImageStatus.DEACTIVATED):
        wanted = "reactivate" if request.active else "deactivate"
        raise Forbidden(f"Not allowed to {wanted} an image in status '{image.status.value}'.", code="image_status")
    status = ImageStatus.ACTIVE if request.active else ImageStatus.DEACTIVATED
    return _saved(tx, msgspec.structs.replace(image, status=status))


@command(ChangeImageTag)
def change_image_tag(tx: Transaction, request: ChangeImageTag) -> ImageResult:
    """Add or remove a tag. Raises NotFound for one that is not there, OverQuota when there are too many."""
    image = owned(tx, request.image_id, request.caller)
    present = request.tag in image.tags
    if request.present:
        if present:
            return ImageResult(image=image)
        if len(image.tags) >= TAGS_MAX:
            raise OverQuota(f"An image may have at most {TAGS_MAX} tags.", code="image_tags")
        return _saved(tx, msgspec.structs.replace(image, tags=(*image.tags, request.tag)))
    if not present:
        raise NotFound(f"Image {image.id} has no tag {request.tag}.", code="tag_not_found")
    return _saved(tx, msgspec.structs.replace(image, tags=tuple(tag for tag in image.tags if tag != request.tag)))


@command(AddImageMember)
def add_image_member(tx: Transaction, request: AddImageMember) -> ImageResult:
    """Offer a shared image to a project. Raises Forbidden when it is not shared, Conflict when it was offered."""
    image = owned(tx, request.image_id, request.caller)
    if image.visibility is not Visibility.SHARED:
        raise Forbidden(
            f"Only shared images have members; this one is {image.visibility.value}.", code="image_not_shared"
        )
    if request.member in image.members:
        raise Conflict(f"Member {request.member} is duplicated for image {image.id}.", code="member_exists")
    if len(image.members) >= MEMBERS_MAX:
        raise OverQuota(f"The maximum number of {MEMBERS_MAX} members has been reached.", code="image_members")
    return _saved(tx, msgspec.structs.replace(image, members={**image.members, request.member: "pending"}))


@command(SetImageMember)
def set_image_member(tx: Transaction, request: SetImageMember) -> ImageResult:
    """Accept or reject an offer. Only the offered project (or an admin) may; the owner is refused."""
    image = images.get(tx, request.image_id, request.caller)
    _need_member(image, request.member)
    if request.status not in MEMBER_STATUSES:
        raise BadRequest(f"The status must be one of {', '.join(MEMBER_STATUSES)}.", field="status")
    if request.caller.project_id != request.member and not request.caller.is_admin:
        if image.project_id != request.caller.project_id:
            raise NotFound(f"{request.member} is not a member of image {image.id}.", code="member_not_found")
        raise Forbidden("Only the project itself may change the status of its membership.", code="foreign_member")
    return _saved(tx, msgspec.structs.replace(image, members={**image.members, request.member: request.status}))


@command(RemoveImageMember)
def remove_image_member(tx: Transaction, request: RemoveImageMember) -> ImageResult:
    """Take an offer back. Raises NotFound when there is none."""
    image = owned(tx, request.image_id, request.caller)
    _need_member(image, request.member)
    members = {member: status for member, status in image.members.items() if member != request.member}
    return _saved(tx, msgspec.structs.replace(image, members=members))


def owned(tx: Transaction, image_id: str, caller: Caller) -> Image:
    """An image the caller may change. Raises NotFound, or Forbidden for one that is only visible."""
    image = images.get(tx, image_id, caller)
    if image.project_id != caller.project_id and not caller.is_admin:
        raise Forbidden(f"You are not permitted to change image {image_id}.", code="foreign_image")
    return image


def check_visibility(visibility: Visibility, caller: Caller) -> None:
    """Raise Forbidden unless the caller may give an image this visibility."""
    if visibility is Visibility.PUBLIC and not caller.is_admin:
        raise Forbidden("Only an admin may make an image public.", code="publicize")


def _need_member(image: Image, member: str) -> None:
    if member not in image.members:
        raise NotFound(f"{member} is not a member of image {image.id}.", code="member_not_found")


def _saved(tx: Transaction, image: Image) -> ImageResult:
    changed = msgspec.structs.replace(image, updated_at_us=tx.now_us)
    tx.put(tables.IMAGES, changed)
    return ImageResult(image=changed)
