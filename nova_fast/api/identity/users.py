"""Users and their passwords. A password is hashed here, in a thread; commands and the store only see the hash."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nova_fast.api.framework.request import Request
from nova_fast.api.identity import shapes
from nova_fast.api.identity.face import Options, face, found, owner_or_reader, split_extra, v3
from nova_fast.api.identity.listing import listing
from nova_fast.identity.grants import usable_user
from nova_fast.identity.login import check_password
from nova_fast.identity.passwords import hash_in_thread
from nova_fast.identity.tokens import void
from nova_fast.model.commands.identity import CreateUser, DeleteUser, UpdateUser
from nova_fast.model.errors import BadRequest
from nova_fast.model.identity import Caller
from nova_fast.queries import identity as queries

UserName = Annotated[str, Meta(min_length=1, max_length=255)]
Password = Annotated[str, Meta(min_length=1, max_length=4096)]
Text = Annotated[str, Meta(max_length=1000)]
Id = Annotated[str, Meta(max_length=64)]


class UserBody(msgspec.Struct, forbid_unknown_fields=True):
    user: dict[str, Any]


class NewUser(msgspec.Struct):
    """The known fields of a new user; he may have others."""

    name: UserName
    domain_id: Id | None = None
    password: Password | None = None
    enabled: bool = True
    description: Text | None = None
    email: Annotated[str, Meta(max_length=255)] | None = None
    default_project_id: Id | None = None
    options: Options = Options()


class ChangedUser(msgspec.Struct):
    name: UserName | None = None
    domain_id: Id | None = None
    password: Password | None = None
    enabled: bool | None = None
    description: Text | None = None
    email: Annotated[str, Meta(max_length=255)] | None = None
    default_project_id: Id | None = None
    options: Options = Options()
    id: str | None = None
    links: dict[str, Any] | None = None
    password_expires_at: str | None = None


class PasswordChange(msgspec.Struct, forbid_unknown_fields=True):
    original_password: Password
    password: Password


class PasswordChangeBody(msgspec.Struct, forbid_unknown_fields=True):
    user: PasswordChange


@face.route("GET", "/users", policy="system-reader")
async def list_users(request: Request) -> dict[str, Any]:
    """All users."""
    with request.snapshot() as reader:
        rows = [shapes.user(one, v3(request)) for one in queries.users(reader)]
    return listing(request, "users", rows, ("name", "domain_id", "enabled"))


@face.route("POST", "/users", ok=201, errors=(400, 404, 409), policy="admin", body=UserBody)
async def create_user(request: Request) -> dict[str, Any]:
    """Make a user."""
    new, extra = split_extra(request.body.user, NewUser)
    command = CreateUser(
        caller=request.caller,
        name=new.name,
        domain_id=new.domain_id or request.caller.domain_id,
        password_hash=await hash_in_thread(new.password) if new.password is not None else "",
        enabled=new.enabled,
        description=new.description or "",
        email=new.email or "",
        default_project_id=new.default_project_id or "",
        extra=extra,
    )
    return {"user": shapes.user((await request.command(command)).user, v3(request))}


@face.route("GET", "/users/{user_id}", errors=(403, 404), policy="owner-user")
async def show_user(request: Request, user_id: str) -> dict[str, Any]:
    """One user: any for an admin, himself for everybody."""
    owner_or_reader(request, user_id)
    with request.snapshot() as reader:
        user = found(queries.user(reader, user_id), "user", user_id)
    return {"user": shapes.user(user, v3(request))}


@face.route("PATCH", "/users/{user_id}", errors=(400, 404, 409), policy="admin", body=UserBody)
async def update_user(request: Request, user_id: str) -> dict[str, Any]:
    """Change a user; another password voids his tokens."""
    changed, extra = split_extra(request.body.user, ChangedUser)
    with request.snapshot() as reader:
        user = found(queries.user(reader, user_id), "user", user_id)
    for name in ("domain_id", "id"):
        if getattr(changed, name) not in (None, getattr(user, name)):
            raise BadRequest("It cannot be changed.", field=name)
    cleared = "default_project_id" in request.body.user and changed.default_project_id is None
    command = UpdateUser(
        caller=request.caller,
        user_id=user_id,
        name=changed.name,
        password_hash=await hash_in_thread(changed.password) if changed.password is not None else None,
        enabled=changed.enabled,
        description=changed.description,
        email=changed.email,
        default_project_id="" if cleared else changed.default_project_id,
        extra=extra,
    )
    return {"user": shapes.user((await request.command(command)).user, v3(request))}


@face.route("DELETE", "/users/{user_id}", ok=204, errors=(403, 404), policy="admin")
async def delete_user(request: Request, user_id: str) -> None:
    """Remove a user and what is his own."""
    await request.command(DeleteUser(caller=request.caller, user_id=user_id))


@face.route("POST", "/users/{user_id}/password", ok=204, errors=(400, 401), policy="none", body=PasswordChangeBody)
async def change_password(request: Request, user_id: str) -> None:
    """Change one's own password; the old one is the proof, so no token is needed."""
    change = request.body.user
    with request.snapshot() as reader:
        user = queries.user(reader, user_id)
        usable = usable_user(reader, user) is not None
    if not await check_password(request.store, user, user_id, change.original_password) or not usable:
        raise void()
    if change.password == change.original_password:
        raise BadRequest("The new password must differ from the old one.", field="password")
    caller = Caller(user_id=user_id, project_id="", roles=(), request_id=request.request_id)
    password_hash = await hash_in_thread(change.password)
    await request.command(UpdateUser(caller=caller, user_id=user_id, password_hash=password_hash))


@face.route("GET", "/users/{user_id}/projects", errors=(403, 404), policy="owner-user")
async def list_projects_of_user(request: Request, user_id: str) -> dict[str, Any]:
    """The projects on which a user has a role."""
    owner_or_reader(request, user_id)
    with request.snapshot() as reader:
        found(queries.user(reader, user_id), "user", user_id)
        rows = [shapes.project(one, v3(request)) for one in queries.projects_of_user(reader, user_id)]
    return listing(request, "projects", rows, ("name", "domain_id", "enabled"))


@face.route("GET", "/users/{user_id}/groups", errors=(403, 404), policy="owner-user")
async def list_groups_of_user(request: Request, user_id: str) -> dict[str, Any]:
    """The groups of a user: there are no groups in this cloud, so he is in none."""
    owner_or_reader(request, user_id)
    with request.snapshot() as reader:
        found(queries.user(reader, user_id), "user", user_id)
    return listing(request, "groups", [], ("name",))
