"""Reads of the identity tables: what roles somebody has somewhere, lists with filters, the catalog."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from nova_fast.model.identity import (
    DEFAULT_DOMAIN_ID,
    IMPLIED_ROLES,
    ApplicationCredential,
    CatalogEndpoint,
    CatalogService,
    Domain,
    Project,
    Region,
    RevokedToken,
    Role,
    RoleAssignment,
    Secret,
    User,
)
from nova_fast.queries import quotas
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader

PROJECT, DOMAIN, SYSTEM = "project", "domain", "system"
#: The scope id of every assignment on the system.
SYSTEM_SCOPE_ID = "all"
#: The row of the secrets table with the key of the tokens.
TOKEN_KEY = "token-key"  # noqa: S105 - a name


class CatalogRow(msgspec.Struct, frozen=True):
    """A service with its enabled endpoints."""

    service: CatalogService
    endpoints: tuple[CatalogEndpoint, ...]


class AssignmentFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which assignments are asked for; None = any."""

    user_id: str | None = None
    role_id: str | None = None
    project_id: str | None = None
    domain_id: str | None = None
    system: bool = False
    effective: bool = False


def user(reader: Reader, user_id: str) -> User | None:
    """The user with this id."""
    return reader.get(tables.USERS, user_id)


def project(reader: Reader, project_id: str) -> Project | None:
    """The project with this id."""
    return reader.get(tables.PROJECTS, project_id)


def domain(reader: Reader, domain_id: str) -> Domain | None:
    """The domain with this id."""
    return reader.get(tables.DOMAINS, domain_id)


def role(reader: Reader, role_id: str) -> Role | None:
    """The role with this id."""
    return reader.get(tables.ROLES, role_id)


def credential(reader: Reader, credential_id: str) -> ApplicationCredential | None:
    """The application credential with this id."""
    return reader.get(tables.APPLICATION_CREDENTIALS, credential_id)


def service(reader: Reader, service_id: str) -> CatalogService | None:
    """The service with this id."""
    return reader.get(tables.CATALOG_SERVICES, service_id)


def endpoint(reader: Reader, endpoint_id: str) -> CatalogEndpoint | None:
    """The endpoint with this id."""
    return reader.get(tables.CATALOG_ENDPOINTS, endpoint_id)


def region(reader: Reader, region_id: str) -> Region | None:
    """The region with this id."""
    return reader.get(tables.REGIONS, region_id)


def revocation(reader: Reader, audit_id: str) -> RevokedToken | None:
    """The revocation of the token with this audit id."""
    return reader.get(tables.REVOKED_TOKENS, audit_id)


def secret(reader: Reader, name: str) -> Secret | None:
    """A key of the cloud."""
    return reader.get(tables.SECRETS, name)


def users(reader: Reader) -> list[User]:
    """All users, by id."""
    return list(reader.scan(tables.USERS))


def projects(reader: Reader) -> list[Project]:
    """All projects, by id."""
    return list(reader.scan(tables.PROJECTS))


def domains(reader: Reader) -> list[Domain]:
    """All domains, by id."""
    return list(reader.scan(tables.DOMAINS))


def roles(reader: Reader) -> list[Role]:
    """All roles, by id."""
    return list(reader.scan(tables.ROLES))


def services(reader: Reader) -> list[CatalogService]:
    """All services, by id."""
    return list(reader.scan(tables.CATALOG_SERVICES))


def endpoints(reader: Reader) -> list[CatalogEndpoint]:
    """All endpoints, by id."""
    return list(reader.scan(tables.CATALOG_ENDPOINTS))


def regions(reader: Reader) -> list[Region]:
    """All regions, by id."""
    return list(reader.scan(tables.REGIONS))


def credentials_of_user(reader: Reader, user_id: str) -> list[ApplicationCredential]:
    """A user's application credentials, by name."""
    return list(reader.scan_index(tables.APPLICATION_CREDENTIALS_BY_USER, user_id))


def user_by_name(reader: Reader, domain_id: str, name: str) -> User | None:
    """The user of this name in a domain."""
    return reader.find(tables.USERS_BY_NAME, domain_id, name)


def project_by_name(reader: Reader, domain_id: str, name: str) -> Project | None:
    """The project of this name in a domain."""
    return reader.find(tables.PROJECTS_BY_NAME, domain_id, name)


def domain_by_name(reader: Reader, name: str) -> Domain | None:
    """The domain of this name."""
    return reader.find(tables.DOMAINS_BY_NAME, name)


def role_by_name(reader: Reader, name: str, domain_id: str | None = None) -> Role | None:
    """The role of this name, global unless a domain is given."""
    return reader.find(tables.ROLES_BY_NAME, domain_id or "", name)


def credential_by_name(reader: Reader, user_id: str, name: str) -> ApplicationCredential | None:
    """A user's application credential of this name."""
    return reader.find(tables.APPLICATION_CREDENTIALS_BY_USER, user_id, name)


def assigned_roles(reader: Reader, user_id: str, scope_type: str, scope_id: str) -> list[Role]:
    """The roles given to a user on a scope, without those they imply."""
    rows = reader.scan(tables.ASSIGNMENTS, user_id, scope_type, scope_id)
    return [role for row in list(rows) if (role := reader.get(tables.ROLES, row.role_id)) is not None]


def with_implied(reader: Reader, roles: Iterable[Role]) -> list[Role]:
    """Roles and, transitively, those they imply; each once, in order of their names."""
    found = {role.id: role for role in roles}
    waiting = [role.name for role in found.values() if role.domain_id is None]
    while waiting:
        implied_name = IMPLIED_ROLES.get(waiting.pop())
        implied = role_by_name(reader, implied_name) if implied_name else None
        if implied is not None and implied.id not in found:
            found[implied.id] = implied
            waiting.append(implied.name)
    return sorted(found.values(), key=lambda role: role.name)


def effective_roles(reader: Reader, user_id: str, scope_type: str, scope_id: str) -> list[Role]:
    """The roles a user has on a scope, implied ones included."""
    return with_implied(reader, assigned_roles(reader, user_id, scope_type, scope_id))


def credential_roles(reader: Reader, credential: ApplicationCredential) -> list[Role]:
    """What an application credential grants now: its roles, as far as its user still has them."""
    held = {role.id for role in effective_roles(reader, credential.user_id, PROJECT, credential.project_id)}
    own = [role for role_id in credential.role_ids if (role := reader.get(tables.ROLES, role_id)) is not None]
    return [role for role in with_implied(reader, own) if role.id in held]


def assignments_of_user(reader: Reader, user_id: str, scope_type: str | None = None) -> list[RoleAssignment]:
    """Everything given to a user."""
    prefix = (user_id,) if scope_type is None else (user_id, scope_type)
    return list(reader.scan(tables.ASSIGNMENTS, *prefix))


def admin_assignments(reader: Reader) -> list[RoleAssignment]:
    """Who has the role admin anywhere: as long as there is one, somebody can give roles."""
    admin = role_by_name(reader, "admin")
    return list(reader.scan_index(tables.ASSIGNMENTS_BY_ROLE, admin.id)) if admin is not None else []


def assignments(reader: Reader, wanted: AssignmentFilter) -> list[RoleAssignment]:
    """Role assignments that match; with ``effective`` implied roles are assignments too."""
    rows = _candidates(reader, wanted)
    if wanted.effective:
        rows = _expanded(reader, rows)
    return [row for row in rows if _matches(row, wanted)]


def _candidates(reader: Reader, wanted: AssignmentFilter) -> Iterator[RoleAssignment]:
    if wanted.user_id is not None:
        return reader.scan(tables.ASSIGNMENTS, wanted.user_id)
    if wanted.project_id is not None:
        return reader.scan_index(tables.ASSIGNMENTS_BY_SCOPE, PROJECT, wanted.project_id)
    if wanted.domain_id is not None:
        return reader.scan_index(tables.ASSIGNMENTS_BY_SCOPE, DOMAIN, wanted.domain_id)
    if wanted.system:
        return reader.scan_index(tables.ASSIGNMENTS_BY_SCOPE, SYSTEM, SYSTEM_SCOPE_ID)
    return reader.scan(tables.ASSIGNMENTS)


def _expanded(reader: Reader, rows: Iterable[RoleAssignment]) -> Iterator[RoleAssignment]:
    seen: set[RoleAssignment] = set()
    for row in rows:
        role = reader.get(tables.ROLES, row.role_id)
        for each in with_implied(reader, [role] if role is not None else []):
            expanded = msgspec.structs.replace(row, role_id=each.id)
            if expanded not in seen:
                seen.add(expanded)
                yield expanded


def _matches(row: RoleAssignment, wanted: AssignmentFilter) -> bool:
    scopes = ((PROJECT, wanted.project_id), (DOMAIN, wanted.domain_id), (SYSTEM, "all" if wanted.system else None))
    return (
        wanted.user_id in (None, row.user_id)
        and wanted.role_id in (None, row.role_id)
        and all(value is None or (row.scope_type, row.scope_id) == (scope, value) for scope, value in scopes)
    )


def projects_of_user(reader: Reader, user_id: str) -> list[Project]:
    """The enabled projects on which a user has a role, by name."""
    ids = {row.scope_id for row in assignments_of_user(reader, user_id, PROJECT)}
    found = [project for project_id in ids if (project := reader.get(tables.PROJECTS, project_id)) is not None]
    return sorted((p for p in found if p.enabled), key=lambda p: (p.name, p.id))


def domains_of_user(reader: Reader, user_id: str) -> list[Domain]:
    """The enabled domains on which a user has a role, by name."""
    ids = {row.scope_id for row in assignments_of_user(reader, user_id, DOMAIN)}
    found = [domain for domain_id in ids if (domain := reader.get(tables.DOMAINS, domain_id)) is not None]
    return sorted((d for d in found if d.enabled), key=lambda d: (d.name, d.id))


def catalog(reader: Reader) -> list[CatalogRow]:
    """Enabled services that have enabled endpoints, by type."""
    rows: list[CatalogRow] = []
    for service in sorted(reader.scan(tables.CATALOG_SERVICES), key=lambda s: (s.type, s.id)):
        if not service.enabled:
            continue
        endpoints = tuple(e for e in reader.scan_index(tables.ENDPOINTS_BY_SERVICE, service.id) if e.enabled)
        if endpoints:
            rows.append(CatalogRow(service, endpoints))
    return rows


def endpoint_url(template: str, project_id: str) -> str | None:
    """A catalog URL for a project; None when it needs a project and there is none."""
    url = template
    for name in ("tenant_id", "project_id"):
        for form in (f"%({name})s", f"$({name})s"):
            if form in url:
                if not project_id:
                    return None
                url = url.replace(form, project_id)
    return url


def project_owns(reader: Reader, project_id: str) -> list[str]:
    """What a project still has, in words for a person; empty = it may go."""
    owned = []
    if next(reader.scan_index(tables.SERVERS_BY_PROJECT, project_id, limit=1), None) is not None:
        owned.append("servers")
    if next(reader.scan_index(tables.NETWORKS_BY_PROJECT, project_id, limit=1), None) is not None:
        owned.append("networks")
    if quotas.usage(reader, project_id).ports:
        owned.append("ports")
    if next(reader.scan_index(tables.IMAGES_BY_PROJECT, project_id, limit=1), None) is not None:
        owned.append("images")
    if any(subnet.project_id == project_id for subnet in reader.scan(tables.SUBNETS)):
        owned.append("subnets")
    if any(router.project_id == project_id for router in reader.scan(tables.ROUTERS)):
        owned.append("routers")
    if any(ip.project_id == project_id for ip in reader.scan(tables.FLOATING_IPS)):
        owned.append("floating IPs")
    groups = reader.scan_index(tables.SECURITY_GROUPS_BY_PROJECT, project_id)
    if any(group.name != "default" for group in groups):
        owned.append("security groups")
    return owned


def domain_or_default(domain_id: str | None) -> str:
    """The id of a domain that may have been left out."""
    return domain_id or DEFAULT_DOMAIN_ID
