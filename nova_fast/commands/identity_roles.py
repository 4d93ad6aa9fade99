"""Roles, who has them where, and application credentials, which lend them to programs."""

from __future__ import annotations

import msgspec

from nova_fast.commands.identity import check_name, refuse_lock_out, taken
from nova_fast.commands.registry import command
from nova_fast.model.commands.identity import (
    ChangeAssignment,
    CreateApplicationCredential,
    CreateRole,
    CredentialResult,
    DeleteApplicationCredential,
    DeleteRole,
    RoleResult,
    UpdateRole,
)
from nova_fast.model.errors import BadRequest, Forbidden, NotFound
from nova_fast.model.identity import BOOTSTRAP_ROLES, ApplicationCredential, Role, RoleAssignment
from nova_fast.queries import identity as queries
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

CREDENTIALS_MAX = 100  # of one user


@command(CreateRole)
def create_role(tx: Transaction, request: CreateRole) -> RoleResult:
    """Make a role. Raises Conflict when its name is taken."""
    check_name(request.name, "role")
    if request.domain_id is not None:
        tx.need(tables.DOMAINS, request.domain_id, "Domain")
    if queries.role_by_name(tx, request.name, request.domain_id) is not None:
        raise taken("role", request.name)
    role = Role(
        id=tx.new_hex(), name=request.name, domain_id=request.domain_id, description=request.description,
        created_at_us=tx.now_us,
    )  # fmt: skip
    tx.insert(tables.ROLES, role)
    return RoleResult(role=role)


@command(UpdateRole)
def update_role(tx: Transaction, request: UpdateRole) -> RoleResult:
    """Change a role. Raises Conflict for a taken name, Forbidden to rename one the cloud relies on."""
    role = tx.need(tables.ROLES, request.role_id, "Role")
    name = role.name if request.name is None else request.name
    if name != role.name:
        _refuse_built_in(role)
        check_name(name, "role")
        if queries.role_by_name(tx, name, role.domain_id) is not None:
            raise taken("role", name)
    description = role.description if request.description is None else request.description
    changed = msgspec.structs.replace(role, name=name, description=description)
    tx.put(tables.ROLES, changed)
    return RoleResult(role=changed)


@command(DeleteRole)
def delete_role(tx: Transaction, request: DeleteRole) -> RoleResult:
    """Remove a role with its assignments. Raises Forbidden for one the cloud relies on."""
    role = tx.need(tables.ROLES, request.role_id, "Role")
    _refuse_built_in(role)
    for row in list(tx.scan_index(tables.ASSIGNMENTS_BY_ROLE, role.id)):
        tx.delete(tables.ASSIGNMENTS, (row.user_id, row.scope_type, row.scope_id, row.role_id))
    tx.delete(tables.ROLES, role.id)
    return RoleResult(role=role)


def _refuse_built_in(role: Role) -> None:
    if role.domain_id is None and role.name in BOOTSTRAP_ROLES:
        raise Forbidden(f"Role {role.name} is one the cloud itself relies on.", code="immutable_role")


@command(ChangeAssignment)
def change_assignment(tx: Transaction, request: ChangeAssignment) -> RoleResult:
    """Give or take a role. Raises NotFound for an unknown user, role or scope, or a role that he has not."""
    role = tx.need(tables.ROLES, request.role_id, "Role")
    user = tx.need(tables.USERS, request.user_id, "User")
    if request.scope_type == queries.PROJECT:
        tx.need(tables.PROJECTS, request.scope_id, "Project")
    elif request.scope_type == queries.DOMAIN:
        tx.need(tables.DOMAINS, request.scope_id, "Domain")
    else:
        assert (request.scope_type, request.scope_id) == (queries.SYSTEM, queries.SYSTEM_SCOPE_ID)
    row = RoleAssignment(user_id=user.id, scope_type=request.scope_type, scope_id=request.scope_id, role_id=role.id)
    key = (row.user_id, row.scope_type, row.scope_id, row.role_id)
    present = tx.get(tables.ASSIGNMENTS, key) is not None
    if request.present and not present:
        tx.insert(tables.ASSIGNMENTS, row)
    elif not request.present:
        if not present:
            raise NotFound(f"User {user.id} does not have role {role.id} there.", code="assignment_not_found")
        refuse_lock_out(tx, lambda other: other == row)
        tx.delete(tables.ASSIGNMENTS, key)
    return RoleResult(role=role)


@command(CreateApplicationCredential)
def create_application_credential(tx: Transaction, request: CreateApplicationCredential) -> CredentialResult:
    """Lend roles to a program. Raises Conflict for a taken name, BadRequest for roles the user has not."""
    check_name(request.name, "application credential")
    user = tx.need(tables.USERS, request.user_id, "User")
    project = tx.need(tables.PROJECTS, request.project_id, "Project")
    if queries.credential_by_name(tx, user.id, request.name) is not None:
        raise taken("application_credential", request.name)
    if tx.count(tables.APPLICATION_CREDENTIALS_BY_USER, user.id) >= CREDENTIALS_MAX:
        raise Forbidden(f"A user has at most {CREDENTIALS_MAX} application credentials.", code="credentials_max")
    held = {role.id for role in queries.effective_roles(tx, user.id, queries.PROJECT, project.id)}
    for role_id in request.role_ids:
        if role_id not in held:
            raise BadRequest(f"The user does not have role {role_id} on project {project.id}.", field="roles")
    if not request.role_ids:
        raise BadRequest("An application credential needs at least one role.", field="roles")
    if 0 < request.expires_at_us <= tx.now_us:
        raise BadRequest("An application credential must expire in the future.", field="expires_at")
    credential = ApplicationCredential(
        id=tx.new_hex(), user_id=user.id, project_id=project.id, name=request.name, secret_hash=request.secret_hash,
        role_ids=request.role_ids, created_at_us=tx.now_us, expires_at_us=request.expires_at_us,
        description=request.description, unrestricted=request.unrestricted, access_rules=request.access_rules,
    )  # fmt: skip
    tx.insert(tables.APPLICATION_CREDENTIALS, credential)
    return CredentialResult(credential=credential)


@command(DeleteApplicationCredential)
def delete_application_credential(tx: Transaction, request: DeleteApplicationCredential) -> CredentialResult:
    """Remove an application credential. Raises NotFound when the user has none of this id."""
    credential = tx.need(tables.APPLICATION_CREDENTIALS, request.credential_id, "Application credential")
    if credential.user_id != request.user_id:
        raise NotFound(f"Application credential {request.credential_id} could not be found.")
    tx.delete(tables.APPLICATION_CREDENTIALS, credential.id)
    return CredentialResult(credential=credential)
