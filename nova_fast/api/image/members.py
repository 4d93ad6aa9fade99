"""Sharing an image with other projects.

Source: Image API v2, "Sharing". The owner offers; the other project accepts or rejects, and sees only its own.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from nova_fast.api.framework.request import Request
from nova_fast.api.image.face import face
from nova_fast.api.image.images import zulu
from nova_fast.model.commands.images import AddImageMember, ImageResult, RemoveImageMember, SetImageMember
from nova_fast.model.errors import Forbidden, NotFound
from nova_fast.model.images import Image, Visibility
from nova_fast.queries import images


class NewMember(msgspec.Struct, forbid_unknown_fields=True):
    member: Annotated[str, Meta(min_length=1, max_length=255)]


class MemberStatus(msgspec.Struct, forbid_unknown_fields=True):
    status: Literal["pending", "accepted", "rejected"]


def _member(image: Image, member: str) -> dict[str, Any]:
    return {
        "member_id": member,
        "image_id": image.id,
        "status": image.members[member],
        "created_at": zulu(image.created_at_us),
        "updated_at": zulu(image.updated_at_us),
        "schema": "/v2/schemas/member",
    }


def _visible(request: Request, image_id: str) -> tuple[Image, list[str]]:
    """The image and those of its members that the caller may know of."""
    with request.snapshot() as snapshot:
        image = images.get(snapshot, image_id, request.caller)
    if image.visibility is not Visibility.SHARED:
        raise Forbidden("Only shared images have members.", code="image_not_shared")
    caller = request.caller
    everyone = caller.is_admin or image.project_id == caller.project_id
    return image, [member for member in image.members if everyone or member == caller.project_id]


@face.route("GET", "/images/{image_id}/members", errors=(403, 404), policy="reader")
async def list_members(request: Request, image_id: str) -> dict[str, Any]:
    """Who was offered the image."""
    image, members = _visible(request, image_id)
    return {"members": [_member(image, member) for member in members], "schema": "/v2/schemas/members"}


@face.route("POST", "/images/{image_id}/members", errors=(400, 403, 404, 409, 413), policy="member", body=NewMember)
async def add_member(request: Request, image_id: str) -> dict[str, Any]:
    """Offer it to a project."""
    member = request.body.member
    result: ImageResult = await request.command(AddImageMember(caller=request.caller, image_id=image_id, member=member))
    return _member(result.image, member)


@face.route("GET", "/images/{image_id}/members/{member_id}", errors=(403, 404), policy="reader")
async def show_member(request: Request, image_id: str, member_id: str) -> dict[str, Any]:
    """One offer."""
    image, members = _visible(request, image_id)
    if member_id not in members:
        raise NotFound(f"{member_id} is not a member of image {image_id}.", code="member_not_found")
    return _member(image, member_id)


@face.route("PUT", "/images/{image_id}/members/{member_id}", errors=(400, 403, 404), policy="member", body=MemberStatus)
async def set_member(request: Request, image_id: str, member_id: str) -> dict[str, Any]:
    """Accept or reject it."""
    result: ImageResult = await request.command(
        SetImageMember(caller=request.caller, image_id=image_id, member=member_id, status=request.body.status)
    )
    return _member(result.image, member_id)


@face.route("DELETE", "/images/{image_id}/members/{member_id}", ok=204, errors=(403, 404), policy="member")
async def remove_member(request: Request, image_id: str, member_id: str) -> None:
    """Take it back."""
    await request.command(RemoveImageMember(caller=request.caller, image_id=image_id, member=member_id))
