"""From the credentials of a login to the facts of a new token.

Every method must pass; none says why it did not. The store is read in short snapshots around the slow password check.
"""

from __future__ import annotations

import time

import msgspec

from nova_fast.identity import passwords
from nova_fast.identity.grants import resolve, scope_roles, token_key, usable_user
from nova_fast.identity.throttle import Throttle
from nova_fast.identity.tokens import TokenFacts, new_audit_id, unseal, void
from nova_fast.model.errors import BadRequest, NovaFastError, Unauthorized
from nova_fast.model.identity import ApplicationCredential, User
from nova_fast.queries import identity as queries
from nova_fast.queries.reading import Reader, Snapshots

PASSWORD, TOKEN, CREDENTIAL = "password", "token", "application_credential"

_throttle = Throttle(time.monotonic)


class DomainRef(msgspec.Struct, frozen=True):
    """A domain by id or name."""

    id: str | None = None
    name: str | None = None


class UserRef(msgspec.Struct, frozen=True):
    """A user by id, or by name and domain."""

    id: str | None = None
    name: str | None = None
    domain: DomainRef | None = None


class PasswordProof(msgspec.Struct, frozen=True):
    user: UserRef
    password: str


class CredentialProof(msgspec.Struct, frozen=True):
    """An application credential by id, or by name and user."""

    secret: str
    id: str | None = None
    name: str | None = None
    user: UserRef | None = None


class WantedScope(msgspec.Struct, frozen=True):
    """What the token shall be for; ``kind`` is "" for the user's default project, else unscoped."""

    kind: str  # "", unscoped, project, domain, system
    id: str | None = None
    name: str | None = None
    domain: DomainRef | None = None


class Proofs(msgspec.Struct, frozen=True, kw_only=True):
    """The credentials of one login: one for each method it names."""

    methods: tuple[str, ...]
    password: PasswordProof | None = None
    token: str | None = None
    credential: CredentialProof | None = None
    scope: WantedScope = WantedScope("")


class _Proven(msgspec.Struct, kw_only=True):
    """What the methods have shown so far."""

    user_id: str = ""
    parent: TokenFacts | None = None
    credential: ApplicationCredential | None = None

    def is_user(self, user_id: str) -> None:
        """All methods must show the same user."""
        if self.user_id not in ("", user_id):
            raise void()
        self.user_id = user_id


async def log_in(store: Snapshots, proofs: Proofs, lifetime_s: float) -> TokenFacts:
    """The facts of a new token. Raises Unauthorized for credentials that do not hold, BadRequest for half ones."""
    proven = _Proven()
    if proofs.credential is not None:
        if proofs.scope.kind:
            raise BadRequest("An application credential has its own scope; none may be asked for.", field="scope")
        await _prove_credential(store, proofs.credential, proven)
    if proofs.password is not None:
        await _prove_password(store, proofs.password, proven)
    if proofs.token is not None:
        _prove_token(store, proofs.token, proven)
    if not proven.user_id:
        raise BadRequest("The request names no method of identification.", field="methods")
    with store.snapshot() as reader:
        return _facts(reader, proofs, proven, lifetime_s)


async def check_password(store: Snapshots, user: User | None, name: str, password: str) -> bool:
    """Whether a password is the user's, counting failures by name; costs the same for nobody."""
    fits = await passwords.verify_in_thread(user.password_hash if user is not None else "", password)
    if _throttle.refuses(name):
        return False
    if not fits:
        _throttle.failed(name)
        return False
    _throttle.succeeded(name)
    return True


async def _prove_password(store: Snapshots, proof: PasswordProof, proven: _Proven) -> None:
    with store.snapshot() as reader:
        user = find_user(reader, proof.user)
        usable = usable_user(reader, user) is not None
    name = user.id if user is not None else f"{proof.user.id} {proof.user.name} {proof.user.domain}"
    if not await check_password(store, user, name, proof.password) or user is None or not usable:
        raise void()
    proven.is_user(user.id)


async def _prove_credential(store: Snapshots, proof: CredentialProof, proven: _Proven) -> None:
    with store.snapshot() as reader:
        credential = None
        if proof.id is not None:
            credential = queries.credential(reader, proof.id)
        elif proof.name is not None and proof.user is not None:
            user = find_user(reader, proof.user)
            credential = queries.credential_by_name(reader, user.id, proof.name) if user is not None else None
        else:
            raise BadRequest("An application credential is named by id, or by name and user.", field="identity")
    if not await passwords.verify_secret(credential.secret_hash if credential is not None else "", proof.secret):
        raise void()
    assert credential is not None
    proven.is_user(credential.user_id)
    proven.credential = credential


def _prove_token(store: Snapshots, token: str, proven: _Proven) -> None:
    now_us = time.time_ns() // 1000
    with store.snapshot() as reader:
        facts = unseal(token_key(reader), token)
        resolve(reader, facts, now_us)
    if facts.credential_id:
        raise void()  # a program with some roles must not get a token with all of them
    proven.is_user(facts.user_id)
    proven.parent = facts


def find_user(reader: Reader, ref: UserRef) -> User | None:
    """The user a login names. Raises BadRequest when it names him by half."""
    if ref.id is not None:
        return queries.user(reader, ref.id)
    if ref.name is None or ref.domain is None:
        raise BadRequest("A user is named by id, or by name and domain.", field="user")
    domain_id = find_domain(reader, ref.domain)
    return queries.user_by_name(reader, domain_id, ref.name) if domain_id is not None else None


def find_domain(reader: Reader, ref: DomainRef) -> str | None:
    """The id of the domain a reference names."""
    if ref.id is not None:
        domain = queries.domain(reader, ref.id)
    elif ref.name is not None:
        domain = queries.domain_by_name(reader, ref.name)
    else:
        raise BadRequest("A domain is named by id or by name.", field="domain")
    return domain.id if domain is not None else None


def _facts(reader: Reader, proofs: Proofs, proven: _Proven, lifetime_s: float) -> TokenFacts:
    now_us = time.time_ns() // 1000
    user = usable_user(reader, queries.user(reader, proven.user_id))
    if user is None:
        raise void()
    parent, credential = proven.parent, proven.credential
    if credential is not None:
        scope = (queries.PROJECT, credential.project_id)
    else:
        scope = _scope(reader, user, proofs.scope)
    expires_at_us = now_us + int(lifetime_s * 1_000_000)
    if parent is not None:
        expires_at_us = parent.expires_at_us
    if credential is not None and credential.expires_at_us:
        expires_at_us = min(expires_at_us, credential.expires_at_us)
    methods = tuple(dict.fromkeys((*proofs.methods, *(parent.methods if parent is not None else ()))))
    facts = TokenFacts(
        user_id=user.id,
        methods=methods,
        scope_type=scope[0],
        scope_id=scope[1],
        issued_at_us=max(now_us, user.tokens_valid_from_us),  # a clock that was set back must not lock him out
        expires_at_us=expires_at_us,
        audit_id=new_audit_id(),
        parent_audit_id=(parent.parent_audit_id or parent.audit_id) if parent is not None else "",
        credential_id=credential.id if credential is not None else "",
    )
    resolve(reader, facts, now_us)
    return facts


def _scope(reader: Reader, user: User, wanted: WantedScope) -> tuple[str, str]:
    """Scope type and id. Raises Unauthorized when the user has no role there."""
    if wanted.kind == "unscoped":
        return "", ""
    if not wanted.kind:
        default = user.default_project_id
        usable = default and scope_roles(reader, user.id, queries.PROJECT, default)
        return (queries.PROJECT, default) if usable else ("", "")
    scope_id: str | None = queries.SYSTEM_SCOPE_ID
    if wanted.kind == queries.DOMAIN:
        scope_id = find_domain(reader, DomainRef(id=wanted.id, name=wanted.name))
    elif wanted.kind == queries.PROJECT:
        scope_id = _find_project(reader, wanted)
    if scope_id is None or not scope_roles(reader, user.id, wanted.kind, scope_id):
        raise Unauthorized("The request you have made requires authentication.", code="no_role_in_scope")
    return wanted.kind, scope_id


def _find_project(reader: Reader, wanted: WantedScope) -> str | None:
    if wanted.id is not None:
        project = queries.project(reader, wanted.id)
    elif wanted.name is not None and wanted.domain is not None:
        domain_id = find_domain(reader, wanted.domain)
        project = queries.project_by_name(reader, domain_id, wanted.name) if domain_id is not None else None
    else:
        raise BadRequest("A project is named by id, or by name and domain.", field="scope")
    return project.id if project is not None else None


def read_token(reader: Reader, token: str) -> TokenFacts | None:
    """The facts of a token that holds now, or None."""
    try:
        facts = unseal(token_key(reader), token)
        resolve(reader, facts, time.time_ns() // 1000)
    except NovaFastError:
        return None
    return facts
