"""Domains, projects and users: names are unique where they must be, and what goes takes along what hangs on it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from nova_fast.commands.registry import command
from nova_fast.model.commands.identity import (
    CreateDomain,
    CreateProject,
    CreateUser,
    DeleteDomain,
    DeleteProject,
    DeleteUser,
    DomainResult,
    ProjectResult,
    RevokeToken,
    TokenRevoked,
    UpdateDomain,
    UpdateProject,
    UpdateUser,
    UserResult,
)
from nova_fast.model.errors import BadRequest, Conflict, Forbidden
from nova_fast.model.identity import DEFAULT_DOMAIN_ID, Domain, Project, RevokedToken, RoleAssignment, User
from nova_fast.queries import identity as queries
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

NAME_BYTES_MAX = 384  # of UTF-8: what an index key can hold beside a domain id
#: Revocations forgotten at a time, so that one revocation stays a small transaction.
FORGOTTEN_MAX = 100


def check_name(name: str, noun: str) -> None:
    """Raises BadRequest for a name that no index can hold."""
    if not name.strip():
        raise BadRequest(f"The name of a {noun} must not be empty.", field="name")
    if len(name.encode()) > NAME_BYTES_MAX:
        raise BadRequest(f"The name of a {noun} has more than {NAME_BYTES_MAX} bytes.", field="name")


def taken(noun: str, name: str) -> Conflict:
    """What is raised when a name is in use."""
    return Conflict(f"Conflict occurred attempting to store {noun} - Duplicate entry found with name {name}.",
                    code=f"{noun}_exists", field="name")  # fmt: skip


def refuse_lock_out(tx: Transaction, leaving: Callable[[RoleAssignment], bool]) -> None:
    """Raises Forbidden when nobody would have the role admin any more: nobody could give anybody a role then."""
    admins = queries.admin_assignments(tx)
    if admins and all(leaving(row) for row in admins):
        raise Forbidden("Nobody would have the role admin any more.", code="last_admin")


# ------------------------------------------------------------------------------------------------ domains


@command(CreateDomain)
def create_domain(tx: Transaction, request: CreateDomain) -> DomainResult:
    """Make a domain. Raises Conflict when its name is taken."""
    check_name(request.name, "domain")
    if queries.domain_by_name(tx, request.name) is not None:
        raise taken("domain", request.name)
    domain = Domain(
        id=tx.new_hex(), name=request.name, description=request.description, enabled=request.enabled,
        created_at_us=tx.now_us,
    )  # fmt: skip
    tx.insert(tables.DOMAINS, domain)
    return DomainResult(domain=domain)


@command(UpdateDomain)
def update_domain(tx: Transaction, request: UpdateDomain) -> DomainResult:
    """Change a domain. Raises Conflict for a taken name, Forbidden to disable the default domain."""
    domain = tx.need(tables.DOMAINS, request.domain_id, "Domain")
    if request.name is not None and request.name != domain.name:
        check_name(request.name, "domain")
        if queries.domain_by_name(tx, request.name) is not None:
            raise taken("domain", request.name)
    if domain.id == DEFAULT_DOMAIN_ID and request.enabled is False:
        raise Forbidden("The default domain cannot be disabled: everybody would be locked out.", code="default_domain")
    changed = msgspec.structs.replace(
        domain,
        name=domain.name if request.name is None else request.name,
        description=domain.description if request.description is None else request.description,
        enabled=domain.enabled if request.enabled is None else request.enabled,
    )
    tx.put(tables.DOMAINS, changed)
    return DomainResult(domain=changed)


@command(DeleteDomain)
def delete_domain(tx: Transaction, request: DeleteDomain) -> DomainResult:
    """Remove a disabled domain and its users. Raises Forbidden while it is enabled, Conflict while it has projects."""
    domain = tx.need(tables.DOMAINS, request.domain_id, "Domain")
    if domain.enabled:
        raise Forbidden("Cannot delete a domain that is enabled, please disable it first.", code="domain_enabled")
    if next(tx.scan_index(tables.PROJECTS_BY_NAME, domain.id, limit=1), None) is not None:
        raise Conflict(f"Domain {domain.id} still has projects.", code="domain_in_use", hint="Delete them first.")
    users = list(tx.scan_index(tables.USERS_BY_NAME, domain.id))
    leaving = {user.id for user in users}
    refuse_lock_out(tx, lambda row: row.user_id in leaving)
    for user in users:
        _remove_user(tx, user)
    for role in list(tx.scan_index(tables.ROLES_BY_NAME, domain.id)):
        for row in list(tx.scan_index(tables.ASSIGNMENTS_BY_ROLE, role.id)):
            _unassign(tx, row.user_id, row.scope_type, row.scope_id, row.role_id)
        tx.delete(tables.ROLES, role.id)
    _remove_assignments(tx, queries.DOMAIN, domain.id)
    tx.delete(tables.DOMAINS, domain.id)
    return DomainResult(domain=domain)


# ------------------------------------------------------------------------------------------------ projects


@command(CreateProject)
def create_project(tx: Transaction, request: CreateProject) -> ProjectResult:
    """Make a project. Raises NotFound for an unknown domain or parent, Conflict when the name is taken."""
    check_name(request.name, "project")
    domain = tx.need(tables.DOMAINS, request.domain_id, "Domain")
    parent_id = request.parent_id or domain.id
    if parent_id != domain.id:
        parent = tx.need(tables.PROJECTS, parent_id, "Project")
        if parent.domain_id != domain.id:
            raise BadRequest("A project must be in the domain of its parent.", field="parent_id")
    if queries.project_by_name(tx, domain.id, request.name) is not None:
        raise taken("project", request.name)
    project = Project(
        id=tx.new_hex(), domain_id=domain.id, name=request.name, parent_id=parent_id, description=request.description,
        enabled=request.enabled, tags=request.tags, created_at_us=tx.now_us, extra=request.extra,
    )  # fmt: skip
    tx.insert(tables.PROJECTS, project)
    return ProjectResult(project=project)


@command(UpdateProject)
def update_project(tx: Transaction, request: UpdateProject) -> ProjectResult:
    """Change a project. Raises Conflict when the new name is taken."""
    project = tx.need(tables.PROJECTS, request.project_id, "Project")
    if request.name is not None and request.name != project.name:
        check_name(request.name, "project")
        if queries.project_by_name(tx, project.domain_id, request.name) is not None:
            raise taken("project", request.name)
    changed = msgspec.structs.replace(
        project,
        name=project.name if request.name is None else request.name,
        description=project.description if request.description is None else request.description,
        enabled=project.enabled if request.enabled is None else request.enabled,
        tags=project.tags if request.tags is None else request.tags,
        extra=project.extra | request.extra,
    )
    tx.put(tables.PROJECTS, changed)
    return ProjectResult(project=changed)


@command(DeleteProject)
def delete_project(tx: Transaction, request: DeleteProject) -> ProjectResult:
    """Remove a project that owns nothing. Raises Conflict that says what it still owns."""
    project = tx.need(tables.PROJECTS, request.project_id, "Project")
    owned = queries.project_owns(tx, project.id)
    if any(child.parent_id == project.id for child in tx.scan_index(tables.PROJECTS_BY_NAME, project.domain_id)):
        owned.append("child projects")
    if owned:
        raise Conflict(f"Project {project.id} still has {', '.join(owned)}.", code="project_in_use",
                       hint="Delete them first: nothing may be left without an owner.")  # fmt: skip
    refuse_lock_out(tx, lambda row: (row.scope_type, row.scope_id) == (queries.PROJECT, project.id))
    for group in list(tx.scan_index(tables.SECURITY_GROUPS_BY_PROJECT, project.id)):
        _remove_default_group(tx, group.id)
    for credential in list(tx.scan_index(tables.APPLICATION_CREDENTIALS_BY_PROJECT, project.id)):
        tx.delete(tables.APPLICATION_CREDENTIALS, credential.id)
    _remove_assignments(tx, queries.PROJECT, project.id)
    if tx.get(tables.QUOTAS, project.id) is not None:
        tx.delete(tables.QUOTAS, project.id)
    if tx.get(tables.USAGES, project.id) is not None:
        tx.delete(tables.USAGES, project.id)
    for user in list(tx.scan(tables.USERS)):
        if user.default_project_id == project.id:
            tx.put(tables.USERS, msgspec.structs.replace(user, default_project_id=""))
    tx.delete(tables.PROJECTS, project.id)
    return ProjectResult(project=project)


def _remove_default_group(tx: Transaction, group_id: str) -> None:
    for rule in list(tx.scan_index(tables.RULES_BY_GROUP, group_id)):
        tx.delete(tables.SECURITY_GROUP_RULES, rule.id)
    tx.delete(tables.SECURITY_GROUPS, group_id)


# ------------------------------------------------------------------------------------------------ users


@command(CreateUser)
def create_user(tx: Transaction, request: CreateUser) -> UserResult:
    """Make a user. Raises NotFound for an unknown domain, Conflict when the name is taken."""
    check_name(request.name, "user")
    tx.need(tables.DOMAINS, request.domain_id, "Domain")
    if request.default_project_id:
        tx.need(tables.PROJECTS, request.default_project_id, "Project")
    if queries.user_by_name(tx, request.domain_id, request.name) is not None:
        raise taken("user", request.name)
    user = User(
        id=tx.new_hex(), domain_id=request.domain_id, name=request.name, password_hash=request.password_hash,
        enabled=request.enabled, description=request.description, email=request.email,
        default_project_id=request.default_project_id, created_at_us=tx.now_us, extra=request.extra,
    )  # fmt: skip
    tx.insert(tables.USERS, user)
    return UserResult(user=user)


@command(UpdateUser)
def update_user(tx: Transaction, request: UpdateUser) -> UserResult:
    """Change a user; another password, or being disabled, voids his tokens. Raises Conflict for a taken name."""
    user = tx.need(tables.USERS, request.user_id, "User")
    if request.name is not None and request.name != user.name:
        check_name(request.name, "user")
        if queries.user_by_name(tx, user.domain_id, request.name) is not None:
            raise taken("user", request.name)
    if request.default_project_id:
        tx.need(tables.PROJECTS, request.default_project_id, "Project")
    if request.enabled is False:
        refuse_lock_out(tx, lambda row: row.user_id == user.id)
    named = {
        name: value
        for name in ("name", "password_hash", "enabled", "description", "email", "default_project_id")
        if (value := getattr(request, name)) is not None
    }
    if request.password_hash is not None or request.enabled is False:
        named["tokens_valid_from_us"] = tx.now_us
    changed = msgspec.structs.replace(user, extra=user.extra | request.extra, **named)
    tx.put(tables.USERS, changed)
    return UserResult(user=changed)


@command(DeleteUser)
def delete_user(tx: Transaction, request: DeleteUser) -> UserResult:
    """Remove a user with everything that is his own. Raises Forbidden for the last one with the role admin."""
    user = tx.need(tables.USERS, request.user_id, "User")
    refuse_lock_out(tx, lambda row: row.user_id == user.id)
    _remove_user(tx, user)
    return UserResult(user=user)


def _remove_user(tx: Transaction, user: User) -> None:
    for row in queries.assignments_of_user(tx, user.id):
        _unassign(tx, row.user_id, row.scope_type, row.scope_id, row.role_id)
    for credential in queries.credentials_of_user(tx, user.id):
        tx.delete(tables.APPLICATION_CREDENTIALS, credential.id)
    for pair in list(tx.scan(tables.KEY_PAIRS, user.id)):
        tx.delete(tables.KEY_PAIRS, (pair.user_id, pair.name))
    tx.delete(tables.USERS, user.id)


def _remove_assignments(tx: Transaction, scope_type: str, scope_id: str) -> None:
    for row in list(tx.scan_index(tables.ASSIGNMENTS_BY_SCOPE, scope_type, scope_id)):
        _unassign(tx, row.user_id, row.scope_type, row.scope_id, row.role_id)


def _unassign(tx: Transaction, user_id: str, scope_type: str, scope_id: str, role_id: str) -> None:
    tx.delete(tables.ASSIGNMENTS, (user_id, scope_type, scope_id, role_id))


# ------------------------------------------------------------------------------------------------ tokens


@command(RevokeToken)
def revoke_token(tx: Transaction, request: RevokeToken) -> TokenRevoked:
    """Void a token; revocations whose tokens have ended anyway are forgotten."""
    for row in list(tx.scan_index(tables.REVOKED_BY_EXPIRY, limit=FORGOTTEN_MAX)):
        if row.expires_at_us > tx.now_us:
            break
        tx.delete(tables.REVOKED_TOKENS, row.audit_id)
    tx.put(tables.REVOKED_TOKENS, RevokedToken(audit_id=request.audit_id, expires_at_us=request.expires_at_us))
    return TokenRevoked()
