"""Application credentials: a name and a secret with which a program acts for a user in one project."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nova_fast.api.framework.request import Request
from nova_fast.api.identity import shapes
from nova_fast.api.identity.face import face, found, owner_or_admin, owner_or_reader, v3
from nova_fast.api.identity.listing import listing
from nova_fast.identity.passwords import hash_in_thread, hash_secret, new_secret
from nova_fast.model.commands.identity import CreateApplicationCredential, DeleteApplicationCredential
from nova_fast.model.errors import BadRequest, Forbidden, NotImplementedHere
from nova_fast.model.identity import ApplicationCredential
from nova_fast.queries import identity as queries
from nova_fast.queries.reading import Reader

Name = Annotated[str, Meta(min_length=1, max_length=255)]
Secret = Annotated[str, Meta(min_length=1, max_length=4096)]
_COLLECTION = "/users/{user_id}/application_credentials"


class RoleRef(msgspec.Struct):
    id: str | None = None
    name: str | None = None


class NewCredential(msgspec.Struct, forbid_unknown_fields=True):
    name: Name
    secret: Secret | None = None
    description: Annotated[str, Meta(max_length=1000)] | None = None
    roles: list[RoleRef] | None = None
    expires_at: str | None = None
    unrestricted: bool | None = None
    access_rules: list[dict[str, Any]] | None = None
    project_id: str | None = None


class NewCredentialBody(msgspec.Struct, forbid_unknown_fields=True):
    application_credential: NewCredential


@face.route("GET", _COLLECTION, errors=(403, 404), policy="owner-user")
async def list_credentials(request: Request, user_id: str) -> dict[str, Any]:
    """A user's application credentials."""
    owner_or_reader(request, user_id)
    with request.snapshot() as reader:
        found(queries.user(reader, user_id), "user", user_id)
        rows = [shapes.credential(reader, one, v3(request)) for one in queries.credentials_of_user(reader, user_id)]
    return listing(request, "application_credentials", rows, ("name",))


@face.route("POST", _COLLECTION, ok=201, errors=(400, 403, 409, 501), policy="owner-user", body=NewCredentialBody)
async def create_credential(request: Request, user_id: str) -> dict[str, Any]:
    """Make an application credential for oneself; its secret is shown this once."""
    new: NewCredential = request.body.application_credential
    _check(request, new, user_id)
    with request.snapshot() as reader:
        _refuse_restricted(request, reader)
        role_ids = _role_ids(request, reader, new)
    secret = new.secret if new.secret is not None else _new_secret(request)
    command = CreateApplicationCredential(
        caller=request.caller,
        user_id=user_id,
        project_id=request.caller.project_id,
        name=new.name,
        secret_hash=hash_secret(secret) if new.secret is None else await hash_in_thread(secret),
        role_ids=role_ids,
        expires_at_us=shapes.from_iso(new.expires_at, "expires_at") if new.expires_at is not None else 0,
        description=new.description or "",
        unrestricted=bool(new.unrestricted),
    )
    credential = (await request.command(command)).credential
    with request.snapshot() as reader:
        body = shapes.credential(reader, credential, v3(request))
    return {"application_credential": body | {"secret": secret}}


def _new_secret(request: Request) -> str:
    secret = request.remembered()
    if secret is None:
        secret = new_secret()
        request.remember(secret)
    return secret


def _check(request: Request, new: NewCredential, user_id: str) -> None:
    if request.caller.user_id != user_id:
        raise Forbidden("Everybody makes application credentials for himself only.", code="policy")
    if not request.caller.project_id:
        raise BadRequest("An application credential is made with a token scoped to a project.", code="unscoped")
    if new.project_id not in (None, request.caller.project_id):
        raise BadRequest("It is the project of the token.", field="project_id")
    if new.access_rules:
        raise NotImplementedHere("Access rules cannot be enforced here yet.", field="access_rules")


def _refuse_restricted(request: Request, reader: Reader) -> None:
    credential_id = request.token.facts.credential_id
    credential = queries.credential(reader, credential_id) if credential_id else None
    if credential is not None and not credential.unrestricted:
        raise Forbidden("A restricted application credential cannot make others.", code="restricted")


def _role_ids(request: Request, reader: Reader, new: NewCredential) -> tuple[str, ...]:
    held = {role.id: role for role in request.token.grant.role_records}
    if not new.roles:
        return tuple(held)
    chosen: list[str] = []
    for ref in new.roles:
        role = queries.role(reader, ref.id) if ref.id is not None else queries.role_by_name(reader, ref.name or "")
        if role is None or role.id not in held:
            raise BadRequest(f"The token does not have role {ref.id or ref.name}.", field="roles")
        chosen.append(role.id)
    return tuple(dict.fromkeys(chosen))


def _own(reader: Reader, user_id: str, credential_id: str) -> ApplicationCredential:
    credential = queries.credential(reader, credential_id)
    mine = credential if credential is not None and credential.user_id == user_id else None
    return found(mine, "application credential", credential_id)


@face.route("GET", f"{_COLLECTION}/{{credential_id}}", errors=(403, 404), policy="owner-user")
async def show_credential(request: Request, user_id: str, credential_id: str) -> dict[str, Any]:
    """One application credential, without its secret."""
    owner_or_reader(request, user_id)
    with request.snapshot() as reader:
        body = shapes.credential(reader, _own(reader, user_id, credential_id), v3(request))
    return {"application_credential": body}


@face.route("DELETE", f"{_COLLECTION}/{{credential_id}}", ok=204, errors=(403, 404), policy="owner-user")
async def delete_credential(request: Request, user_id: str, credential_id: str) -> None:
    """Remove an application credential; its tokens are void at once."""
    owner_or_admin(request, user_id)
    with request.snapshot() as reader:
        _refuse_restricted(request, reader)
        _own(reader, user_id, credential_id)
    command = DeleteApplicationCredential(caller=request.caller, user_id=user_id, credential_id=credential_id)
    await request.command(command)
