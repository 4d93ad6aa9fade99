"""What a token grants at this moment: its user, scope and roles as the store has them now.

Roles are evaluated each time, so that taking one away, disabling a user, project or domain, or changing a password
voids the tokens that stand on it at once.
"""

from __future__ import annotations

import msgspec

from nova_fast.identity.tokens import TokenFacts, void
from nova_fast.model.errors import Unauthorized
from nova_fast.model.identity import Role, User
from nova_fast.queries import identity as queries
from nova_fast.queries.reading import Reader


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a token grants now."""

    user_id: str
    project_id: str
    domain_id: str  # of the scope, else of the user
    roles: tuple[str, ...]
    role_records: tuple[Role, ...]
    system: bool
    expires_at_us: int


def token_key(reader: Reader) -> bytes:
    """The cloud's token key. Raises Unauthorized while the cloud has none (it was never set up)."""
    secret = queries.secret(reader, queries.TOKEN_KEY)
    if secret is None:
        raise Unauthorized("This cloud has not been set up yet.", code="no_token_key")
    return secret.value


def resolve(reader: Reader, facts: TokenFacts, now_us: int) -> Grant:
    """What a token grants now. Raises Unauthorized when it ended, was revoked, or what it stands on is gone."""
    if facts.expires_at_us <= now_us or queries.revocation(reader, facts.audit_id) is not None:
        raise void()
    user = usable_user(reader, queries.user(reader, facts.user_id))
    if user is None or facts.issued_at_us < user.tokens_valid_from_us:
        raise void()
    roles = _credential_roles(reader, facts, now_us) if facts.credential_id else None
    if roles is None:
        roles = scope_roles(reader, user.id, facts.scope_type, facts.scope_id)
    if facts.scope_type and not roles:
        raise void()
    project_id = facts.scope_id if facts.scope_type == queries.PROJECT else ""
    domain_id = facts.scope_id if facts.scope_type == queries.DOMAIN else user.domain_id
    if project_id:
        project = queries.project(reader, project_id)
        assert project is not None
        domain_id = project.domain_id
    return Grant(
        user_id=user.id,
        project_id=project_id,
        domain_id=domain_id,
        roles=tuple(role.name for role in roles),
        role_records=tuple(roles),
        system=facts.scope_type == queries.SYSTEM,
        expires_at_us=facts.expires_at_us,
    )


def usable_user(reader: Reader, user: User | None) -> User | None:
    """The user, when he and his domain are enabled."""
    if user is None or not user.enabled:
        return None
    domain = queries.domain(reader, user.domain_id)
    return user if domain is not None and domain.enabled else None


def scope_roles(reader: Reader, user_id: str, scope_type: str, scope_id: str) -> list[Role]:
    """The roles of a user on a scope that exists and is enabled; none otherwise."""
    if scope_type == queries.PROJECT:
        project = queries.project(reader, scope_id)
        domain = queries.domain(reader, project.domain_id) if project is not None and project.enabled else None
        if domain is None or not domain.enabled:
            return []
    elif scope_type == queries.DOMAIN:
        domain = queries.domain(reader, scope_id)
        if domain is None or not domain.enabled:
            return []
    elif not scope_type:
        return []
    return queries.effective_roles(reader, user_id, scope_type, scope_id)


def _credential_roles(reader: Reader, facts: TokenFacts, now_us: int) -> list[Role]:
    credential = queries.credential(reader, facts.credential_id)
    if credential is None or 0 < credential.expires_at_us <= now_us or credential.project_id != facts.scope_id:
        raise void()
    if not scope_roles(reader, facts.user_id, queries.PROJECT, credential.project_id):
        raise void()
    return queries.credential_roles(reader, credential)
