"""Logging in, and what a token says: issue, validate, revoke, and what the caller may scope to."""

from __future__ import annotations

import time
from typing import Any, Literal

import msgspec

from nova_fast.api.framework.request import Request
from nova_fast.api.framework.route import Answer
from nova_fast.api.identity import shapes
from nova_fast.api.identity.face import face, v3
from nova_fast.api.identity.listing import is_true, listing
from nova_fast.identity.grants import Grant, resolve, token_key
from nova_fast.identity.login import (
    CREDENTIAL,
    PASSWORD,
    TOKEN,
    CredentialProof,
    DomainRef,
    PasswordProof,
    Proofs,
    UserRef,
    WantedScope,
    log_in,
)
from nova_fast.identity.tokens import TokenFacts, seal, unseal
from nova_fast.model.commands.identity import RevokeToken
from nova_fast.model.errors import BadRequest, Forbidden, NotFound, Unauthorized
from nova_fast.queries import identity as queries
from nova_fast.queries.reading import Reader

_TOKEN_LENGTH_MAX = 4096


class Domain(msgspec.Struct, forbid_unknown_fields=True):
    id: str | None = None
    name: str | None = None

    def ref(self) -> DomainRef:
        return DomainRef(id=self.id, name=self.name)


class User(msgspec.Struct, forbid_unknown_fields=True):
    id: str | None = None
    name: str | None = None
    domain: Domain | None = None
    password: str | None = None

    def ref(self) -> UserRef:
        return UserRef(id=self.id, name=self.name, domain=self.domain.ref() if self.domain is not None else None)


class PasswordMethod(msgspec.Struct, forbid_unknown_fields=True):
    user: User


class TokenMethod(msgspec.Struct, forbid_unknown_fields=True):
    id: str


class CredentialMethod(msgspec.Struct, forbid_unknown_fields=True):
    secret: str
    id: str | None = None
    name: str | None = None
    user: User | None = None


class Identity(msgspec.Struct, forbid_unknown_fields=True):
    methods: list[Literal["password", "token", "application_credential"]]
    password: PasswordMethod | None = None
    token: TokenMethod | None = None
    application_credential: CredentialMethod | None = None


class ScopeProject(msgspec.Struct, forbid_unknown_fields=True):
    id: str | None = None
    name: str | None = None
    domain: Domain | None = None


class ScopeSystem(msgspec.Struct, forbid_unknown_fields=True):
    all: Literal[True] | bool


class Scope(msgspec.Struct, forbid_unknown_fields=True):
    project: ScopeProject | None = None
    domain: Domain | None = None
    system: ScopeSystem | None = None
    unscoped: dict[str, Any] | None = None


class Auth(msgspec.Struct, forbid_unknown_fields=True):
    identity: Identity
    scope: Scope | Literal["unscoped"] | None = None


class AuthBody(msgspec.Struct, forbid_unknown_fields=True):
    auth: Auth


# ---------------------------------------------------------------------- issue


@face.route("POST", "/auth/tokens", ok=201, errors=(400, 401), policy="none", body=AuthBody)
async def issue_token(request: Request) -> Answer:
    """Log in."""
    proofs = _proofs(request.body.auth)
    store = request.store
    facts = await log_in(store, proofs, request.config.api.token_lifetime_s)
    with store.snapshot() as reader:
        token = seal(token_key(reader), facts)
        grant = resolve(reader, facts, facts.expires_at_us - 1)  # the login has looked at the clock
        body = token_body(reader, facts, grant, with_catalog=_wants_catalog(request))
    return Answer(body=body, headers={"x-subject-token": token})


def _proofs(auth: Auth) -> Proofs:
    identity = auth.identity
    password = token = credential = None
    if PASSWORD in identity.methods:
        user = _given(identity.password, PASSWORD).user
        if user.password is None:
            raise BadRequest("'password' is a required property", field="password")
        password = PasswordProof(user=user.ref(), password=user.password)
    if TOKEN in identity.methods:
        token = _given(identity.token, TOKEN).id
        if len(token) > _TOKEN_LENGTH_MAX:
            raise Unauthorized("The request you have made requires authentication.")
    if CREDENTIAL in identity.methods:
        method = _given(identity.application_credential, CREDENTIAL)
        ref = method.user.ref() if method.user is not None else None
        credential = CredentialProof(secret=method.secret, id=method.id, name=method.name, user=ref)
    methods = tuple(dict.fromkeys(identity.methods))
    return Proofs(methods=methods, password=password, token=token, credential=credential, scope=_scope(auth.scope))


def _given(method: Any, name: str) -> Any:
    if method is None:
        raise BadRequest(f"'{name}' is a required property", field=name)
    return method


def _scope(scope: Scope | str | None) -> WantedScope:
    if scope is None:
        return WantedScope("")
    if isinstance(scope, str):
        return WantedScope("unscoped")
    kinds = [name for name in ("project", "domain", "system", "unscoped") if getattr(scope, name) is not None]
    if len(kinds) != 1:
        raise BadRequest("A scope names exactly one of project, domain, system or unscoped.", field="scope")
    if scope.project is not None:
        domain = scope.project.domain.ref() if scope.project.domain is not None else None
        return WantedScope("project", id=scope.project.id, name=scope.project.name, domain=domain)
    if scope.domain is not None:
        return WantedScope("domain", id=scope.domain.id, name=scope.domain.name)
    if scope.system is not None and not scope.system.all:
        raise BadRequest("The only system scope is all.", field="system")
    return WantedScope(kinds[0])


def _wants_catalog(request: Request) -> bool:
    return not any(key == "nocatalog" and is_true(value) for key, value in request.query_pairs())


# ---------------------------------------------------------------------- what a token says


def token_body(reader: Reader, facts: TokenFacts, grant: Grant, *, with_catalog: bool) -> dict[str, Any]:
    """The body of a token as issue and validation show it."""
    user = queries.user(reader, facts.user_id)
    assert user is not None
    token: dict[str, Any] = {
        "methods": list(facts.methods),
        "user": {
            "id": user.id,
            "name": user.name,
            "domain": _domain(reader, user.domain_id),
            "password_expires_at": None,
        },
        "audit_ids": [facts.audit_id, *([facts.parent_audit_id] if facts.parent_audit_id else [])],
        "issued_at": shapes.iso(facts.issued_at_us),
        "expires_at": shapes.iso(facts.expires_at_us),
    }
    if facts.scope_type:
        token |= _scope_body(reader, facts)
        token["roles"] = [{"id": role.id, "name": role.name} for role in grant.role_records]
        if with_catalog:
            token["catalog"] = shapes.catalog(reader, grant.project_id)
    credential = queries.credential(reader, facts.credential_id) if facts.credential_id else None
    if credential is not None:
        token["application_credential"] = {
            "id": credential.id,
            "name": credential.name,
            "restricted": not credential.unrestricted,
        }
    return {"token": token}


def _domain(reader: Reader, domain_id: str) -> dict[str, str]:
    domain = queries.domain(reader, domain_id)
    assert domain is not None
    return {"id": domain.id, "name": domain.name}


def _scope_body(reader: Reader, facts: TokenFacts) -> dict[str, Any]:
    if facts.scope_type == queries.SYSTEM:
        return {"system": {"all": True}}
    if facts.scope_type == queries.DOMAIN:
        return {"domain": _domain(reader, facts.scope_id)}
    project = queries.project(reader, facts.scope_id)
    assert project is not None
    named = {"id": project.id, "name": project.name, "domain": _domain(reader, project.domain_id)}
    return {"project": named, "is_domain": False}


# ---------------------------------------------------------------------- validate, revoke


def _subject(request: Request, reader: Reader) -> tuple[TokenFacts, Grant]:
    """The token asked about. Raises NotFound when it does not hold, Forbidden when the caller may not know."""
    token = request.header("x-subject-token")
    if not token:
        raise BadRequest("The header X-Subject-Token is missing.", field="X-Subject-Token")
    now_us = time.time_ns() // 1000
    caller = request.caller
    trusted = caller.is_admin or "service" in caller.roles
    try:
        facts = unseal(token_key(reader), token)
        late = any(key == "allow_expired" and is_true(value) for key, value in request.query_pairs())
        grant = resolve(reader, facts, min(now_us, facts.expires_at_us - 1) if late and trusted else now_us)
    except Unauthorized:
        raise NotFound("Could not find token.", code="token_not_found") from None
    if facts.user_id != caller.user_id and not trusted and not (caller.system and "reader" in caller.roles):
        raise Forbidden("You are not authorized to perform the requested action: identity:validate_token.")
    return facts, grant


@face.route("GET", "/auth/tokens", errors=(400, 403, 404), policy="owner-user")
async def validate_token(request: Request) -> Answer:
    """What the token in X-Subject-Token says; 404 when it does not hold any more."""
    with request.snapshot() as reader:
        facts, grant = _subject(request, reader)
        body = token_body(reader, facts, grant, with_catalog=_wants_catalog(request))
    return Answer(body=body, headers={"x-subject-token": request.header("x-subject-token") or ""})


@face.route("DELETE", "/auth/tokens", ok=204, errors=(400, 403, 404), policy="owner-user")
async def revoke_token(request: Request) -> None:
    """Void the token in X-Subject-Token."""
    with request.snapshot() as reader:
        facts, _ = _subject(request, reader)
    if facts.user_id != request.caller.user_id and not request.caller.is_admin:
        raise Forbidden("You are not authorized to perform the requested action: identity:revoke_token.")
    revocation = RevokeToken(caller=request.caller, audit_id=facts.audit_id, expires_at_us=facts.expires_at_us)
    await request.command(revocation)


# ---------------------------------------------------------------------- what the caller has


@face.route("GET", "/auth/catalog", errors=(403,), policy="any")
async def show_catalog(request: Request) -> dict[str, Any]:
    """The catalog for the caller's scope."""
    if not request.token.facts.scope_type:
        raise Forbidden("A token without a scope has no catalog.", code="unscoped")
    with request.snapshot() as reader:
        rows = shapes.catalog(reader, request.caller.project_id)
    return {"catalog": rows, "links": {"self": f"{v3(request)}/auth/catalog", "next": None, "previous": None}}


@face.route("GET", "/auth/projects", policy="any")
async def list_own_projects(request: Request) -> dict[str, Any]:
    """The projects the caller may scope to."""
    with request.snapshot() as reader:
        rows = [shapes.project(one, v3(request)) for one in queries.projects_of_user(reader, request.caller.user_id)]
    return listing(request, "projects", rows, ("name", "domain_id", "enabled"))


@face.route("GET", "/auth/domains", policy="any")
async def list_own_domains(request: Request) -> dict[str, Any]:
    """The domains the caller may scope to."""
    with request.snapshot() as reader:
        rows = [shapes.domain(one, v3(request)) for one in queries.domains_of_user(reader, request.caller.user_id)]
    return listing(request, "domains", rows, ("name", "enabled"))


@face.route("GET", "/auth/system", policy="any")
async def list_own_systems(request: Request) -> dict[str, Any]:
    """Whether the caller may scope to the system."""
    with request.snapshot() as reader:
        rows = queries.assignments_of_user(reader, request.caller.user_id, queries.SYSTEM)
    systems = [{"all": True}] if rows else []
    return {"system": systems, "links": {"self": f"{v3(request)}/auth/system"}}
