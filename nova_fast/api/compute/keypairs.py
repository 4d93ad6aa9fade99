"""Key pairs of a user. The private half of a pair made here is in the answer that made it and nowhere else.

Source: Compute API v2.1, "Keypairs (keypairs)".
"""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from nova_fast.api.compute import keypair_keys
from nova_fast.api.compute.face import face
from nova_fast.api.compute.shapes import micros
from nova_fast.api.framework.paging import clamp_limit, page
from nova_fast.api.framework.request import Request
from nova_fast.model.commands.keypairs import CreateKeyPair, DeleteKeyPair, KeyPairResult
from nova_fast.model.errors import BadRequest, Forbidden
from nova_fast.model.servers import KeyPair
from nova_fast.queries import keypairs

Name = Annotated[str, Meta(min_length=1, max_length=255)]
_OLD_NAME = re.compile(r"[a-zA-Z0-9 _\-]+")
_NAME = re.compile(r"[a-zA-Z0-9 _\-@.]+")


class NewKeyPair(msgspec.Struct, forbid_unknown_fields=True):
    name: Name
    public_key: str | None = None


class TypedKeyPair(msgspec.Struct, forbid_unknown_fields=True):
    name: Name
    public_key: str | None = None
    type: Literal["ssh", "x509"] = "ssh"


class UsersKeyPair(TypedKeyPair, forbid_unknown_fields=True):
    user_id: str | None = None


class ImportedKeyPair(msgspec.Struct, forbid_unknown_fields=True):
    name: Name
    public_key: str
    type: Literal["ssh", "x509"] = "ssh"
    user_id: str | None = None


class CreateBody(msgspec.Struct, forbid_unknown_fields=True):
    keypair: NewKeyPair


class CreateBody202(msgspec.Struct, forbid_unknown_fields=True):
    keypair: TypedKeyPair


class CreateBody210(msgspec.Struct, forbid_unknown_fields=True):
    keypair: UsersKeyPair


class CreateBody292(msgspec.Struct, forbid_unknown_fields=True):
    keypair: ImportedKeyPair


class NoQuery(msgspec.Struct):
    pass


class UserQuery(msgspec.Struct):
    user_id: str | None = None


class ListQuery(UserQuery):
    limit: int | None = None
    marker: str | None = None


class StrictUserQuery(UserQuery, forbid_unknown_fields=True):
    pass


class StrictListQuery(ListQuery, forbid_unknown_fields=True):
    pass


_SHOW_QUERY = {"2.1": NoQuery, "2.10": UserQuery, "2.75": StrictUserQuery}
_LIST_QUERY = {"2.1": NoQuery, "2.10": UserQuery, "2.35": ListQuery, "2.75": StrictListQuery}


def _brief(request: Request, key_pair: KeyPair) -> dict[str, Any]:
    body = {"name": key_pair.name, "public_key": key_pair.public_key, "fingerprint": key_pair.fingerprint}
    if request.at_least("2.2"):
        body["type"] = key_pair.type
    return body


@face.route("GET", "/os-keypairs", errors=(400,), policy="owner-user", query=_LIST_QUERY)
async def list_key_pairs(request: Request) -> dict[str, Any]:
    """A user's key pairs by name."""
    user_id = _user_asked(request)
    if not request.at_least("2.35"):
        with request.snapshot() as snapshot:
            rows = keypairs.listing(snapshot, user_id)
        return {"keypairs": [{"keypair": _brief(request, row)} for row in rows]}
    limit = clamp_limit(request, request.query.limit)
    with request.snapshot() as snapshot:
        rows = keypairs.listing(snapshot, user_id, request.query.marker, limit)
    links = page(request, rows, limit, "keypairs", lambda row: row.name)
    return {"keypairs": [{"keypair": _brief(request, row)} for row in rows], **links}


@face.route(
    "POST",
    "/os-keypairs",
    ok={"2.1": 200, "2.2": 201},
    errors=(400, 403, 409),
    policy="owner-user",
    body={"2.1": CreateBody, "2.2": CreateBody202, "2.10": CreateBody210, "2.92": CreateBody292},
)
async def create_key_pair(request: Request) -> dict[str, Any]:
    """Keep a public key, or (before 2.92, when none is given) make a pair."""
    asked = request.body.keypair
    allowed = _NAME if request.at_least("2.92") else _OLD_NAME
    if not allowed.fullmatch(asked.name) or asked.name != asked.name.strip():
        raise BadRequest(
            "Keypair data is invalid: Keypair name contains unsafe characters.", code="bad_name", field="keypair.name"
        )
    kind = getattr(asked, "type", "ssh")
    private_key = None
    if asked.public_key is not None:
        public_key = asked.public_key
        check = keypair_keys.ssh_fingerprint if kind == "ssh" else keypair_keys.x509_fingerprint
        fingerprint = check(public_key)
    elif kind == "x509":
        raise BadRequest(
            "X.509 pairs are not made here; import a certificate.", code="cannot_generate", field="keypair.public_key"
        )
    else:
        made = await _new_pair(request)
        public_key, private_key, fingerprint = made.public_key, made.private_key, made.fingerprint
    result: KeyPairResult = await request.command(
        CreateKeyPair(
            caller=request.caller,
            user_id=_check_user(request, getattr(asked, "user_id", None)),
            name=asked.name,
            key_type=kind,
            public_key=public_key,
            fingerprint=fingerprint,
        )
    )
    body = _brief(request, result.key_pair) | {"user_id": result.key_pair.user_id}
    if private_key is not None:
        body["private_key"] = private_key
    return {"keypair": body}


async def _new_pair(request: Request) -> keypair_keys.NewPair:
    private_key = request.remembered()
    if private_key is not None:
        return keypair_keys.pair_of(private_key)
    made = await asyncio.to_thread(keypair_keys.generate)
    request.remember(made.private_key)
    return made


@face.route("GET", "/os-keypairs/{name}", errors=(404,), policy="owner-user", query=_SHOW_QUERY)
async def show_key_pair(request: Request, name: str) -> dict[str, Any]:
    """One key pair."""
    with request.snapshot() as snapshot:
        found = keypairs.get(snapshot, _user_asked(request), name)
    body = _brief(request, found) | {
        "user_id": found.user_id,
        "id": found.number,
        "created_at": micros(found.created_at_us),
        "updated_at": None,
        "deleted": False,
        "deleted_at": None,
    }
    return {"keypair": body}


@face.route(
    "DELETE",
    "/os-keypairs/{name}",
    ok={"2.1": 202, "2.2": 204},
    errors=(404,),
    policy="owner-user",
    query=_SHOW_QUERY,
)
async def delete_key_pair(request: Request, name: str) -> None:
    """Forget one."""
    await request.command(DeleteKeyPair(caller=request.caller, user_id=_user_asked(request), name=name))


def _user_asked(request: Request) -> str:
    return _check_user(request, getattr(request.query, "user_id", None))


def _check_user(request: Request, user_id: str | None) -> str:
    caller = request.caller
    if not user_id or user_id == caller.user_id:
        return caller.user_id
    if not caller.is_admin:
        raise Forbidden("Only an admin may act on the key pairs of another user.", code="foreign_user")
    return user_id
