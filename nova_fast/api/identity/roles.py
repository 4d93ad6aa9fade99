"""Roles, and who has them on which project, domain or the system."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nova_fast.api.framework.request import Request
from nova_fast.api.identity import shapes
from nova_fast.api.identity.face import Options, face, found, v3
from nova_fast.api.identity.listing import is_true, listing
from nova_fast.model.commands.identity import ChangeAssignment, CreateRole, DeleteRole, UpdateRole
from nova_fast.model.errors import NotFound
from nova_fast.model.identity import RoleAssignment
from nova_fast.queries import identity as queries
from nova_fast.queries.reading import Reader

RoleName = Annotated[str, Meta(min_length=1, max_length=64)]
Text = Annotated[str, Meta(max_length=1000)]


class NewRole(msgspec.Struct, forbid_unknown_fields=True):
    name: RoleName
    domain_id: str | None = None
    description: Text | None = None
    options: Options = Options()


class NewRoleBody(msgspec.Struct, forbid_unknown_fields=True):
    role: NewRole


class ChangedRole(msgspec.Struct, forbid_unknown_fields=True):
    name: RoleName | None = None
    description: Text | None = None
    options: Options = Options()


class ChangedRoleBody(msgspec.Struct, forbid_unknown_fields=True):
    role: ChangedRole


@face.route("GET", "/roles", policy="system-reader")
async def list_roles(request: Request) -> dict[str, Any]:
    """Global roles; those of a domain with ``domain_id``."""
    with request.snapshot() as reader:
        rows = [shapes.role(one, v3(request)) for one in queries.roles(reader)]
    if not any(key == "domain_id" for key, _ in request.query_pairs()):
        rows = [row for row in rows if row["domain_id"] is None]
    return listing(request, "roles", rows, ("name", "domain_id"))


@face.route("POST", "/roles", ok=201, errors=(400, 404, 409), policy="admin", body=NewRoleBody)
async def create_role(request: Request) -> dict[str, Any]:
    """Make a role."""
    new = request.body.role
    command = CreateRole(
        caller=request.caller, name=new.name, domain_id=new.domain_id, description=new.description or ""
    )
    return {"role": shapes.role((await request.command(command)).role, v3(request))}


@face.route("GET", "/roles/{role_id}", errors=(404,), policy="system-reader")
async def show_role(request: Request, role_id: str) -> dict[str, Any]:
    """One role."""
    with request.snapshot() as reader:
        role = found(queries.role(reader, role_id), "role", role_id)
    return {"role": shapes.role(role, v3(request))}


@face.route("PATCH", "/roles/{role_id}", errors=(400, 403, 404, 409), policy="admin", body=ChangedRoleBody)
async def update_role(request: Request, role_id: str) -> dict[str, Any]:
    """Change a role."""
    changed = request.body.role
    command = UpdateRole(caller=request.caller, role_id=role_id, name=changed.name, description=changed.description)
    return {"role": shapes.role((await request.command(command)).role, v3(request))}


@face.route("DELETE", "/roles/{role_id}", ok=204, errors=(403, 404), policy="admin")
async def delete_role(request: Request, role_id: str) -> None:
    """Remove a role and its assignments."""
    await request.command(DeleteRole(caller=request.caller, role_id=role_id))


# ---------------------------------------------------------------------- assignments on one scope


async def _list(request: Request, scope_type: str, scope_id: str, user_id: str) -> dict[str, Any]:
    with request.snapshot() as reader:
        _need_scope(reader, scope_type, scope_id)
        found(queries.user(reader, user_id), "user", user_id)
        roles = queries.assigned_roles(reader, user_id, scope_type, scope_id)
    return listing(request, "roles", [shapes.role(one, v3(request)) for one in roles], ("name",))


async def _check(request: Request, scope_type: str, scope_id: str, user_id: str, role_id: str) -> None:
    with request.snapshot() as reader:
        _need_scope(reader, scope_type, scope_id)
        held = {role.id for role in queries.assigned_roles(reader, user_id, scope_type, scope_id)}
    if role_id not in held:
        raise NotFound(f"Could not find role assignment with role: {role_id}, user: {user_id}.")


def _need_scope(reader: Reader, scope_type: str, scope_id: str) -> None:
    if scope_type == queries.PROJECT:
        found(queries.project(reader, scope_id), "project", scope_id)
    elif scope_type == queries.DOMAIN:
        found(queries.domain(reader, scope_id), "domain", scope_id)


def _declare(prefix: str, scope_type: str, parameter: str) -> None:
    """The five routes of assignments are the same on a project, a domain and the system."""

    def scope_of(parameters: dict[str, str]) -> str:
        return parameters[parameter] if parameter else queries.SYSTEM_SCOPE_ID

    one = f"{prefix}/users/{{user_id}}/roles/{{role_id}}"

    @face.route("GET", f"{prefix}/users/{{user_id}}/roles", errors=(404,), policy="system-reader")
    async def list_assigned(request: Request, **parameters: str) -> dict[str, Any]:
        """The roles of a user there."""
        return await _list(request, scope_type, scope_of(parameters), parameters["user_id"])

    async def check_assigned(request: Request, **parameters: str) -> None:
        """Whether a user has a role there."""
        await _check(request, scope_type, scope_of(parameters), parameters["user_id"], parameters["role_id"])

    for method in ("GET", "HEAD"):
        face.route(method, one, ok=204, errors=(404,), policy="system-reader")(check_assigned)

    async def change(request: Request, parameters: dict[str, str], *, present: bool) -> None:
        command = ChangeAssignment(
            caller=request.caller,
            user_id=parameters["user_id"],
            role_id=parameters["role_id"],
            scope_type=scope_type,
            scope_id=scope_of(parameters),
            present=present,
        )
        await request.command(command)

    @face.route("PUT", one, ok=204, errors=(404,), policy="admin")
    async def assign(request: Request, **parameters: str) -> None:
        """Give a user a role there."""
        await change(request, parameters, present=True)

    @face.route("DELETE", one, ok=204, errors=(403, 404), policy="admin")
    async def unassign(request: Request, **parameters: str) -> None:
        """Take it away."""
        await change(request, parameters, present=False)


_declare("/projects/{project_id}", queries.PROJECT, "project_id")
_declare("/domains/{domain_id}", queries.DOMAIN, "domain_id")
_declare("/system", queries.SYSTEM, "")


# ---------------------------------------------------------------------- all assignments


class AssignmentQuery(msgspec.Struct):
    """Filters of the list of assignments; groups are never assigned anything here."""

    user: str | None = msgspec.field(default=None, name="user.id")
    group: str | None = msgspec.field(default=None, name="group.id")
    role: str | None = msgspec.field(default=None, name="role.id")
    project: str | None = msgspec.field(default=None, name="scope.project.id")
    domain: str | None = msgspec.field(default=None, name="scope.domain.id")
    system: str | None = msgspec.field(default=None, name="scope.system")
    inherited: str | None = msgspec.field(default=None, name="scope.OS-INHERIT:inherited_to")
    effective: str | None = None
    include_names: str | None = None


@face.route("GET", "/role_assignments", errors=(400,), policy="system-reader", query=AssignmentQuery)
async def list_assignments(request: Request) -> dict[str, Any]:
    """Who has which role where."""
    query: AssignmentQuery = request.query
    names = query.include_names is not None and is_true(query.include_names)
    wanted = queries.AssignmentFilter(
        user_id=query.user,
        role_id=query.role,
        project_id=query.project,
        domain_id=query.domain,
        system=query.system is not None,
        effective=query.effective is not None and is_true(query.effective),
    )
    with request.snapshot() as reader:
        nobody = query.group is not None or query.inherited is not None
        rows = [] if nobody else queries.assignments(reader, wanted)
        shown = [_assignment(reader, row, v3(request), names) for row in rows]
    self_link = f"{request.base_url}{request.path}"
    return {"role_assignments": shown, "links": {"self": self_link, "next": None, "previous": None}}


def _assignment(reader: Reader, row: RoleAssignment, base: str, names: bool) -> dict[str, Any]:
    role: dict[str, Any] = {"id": row.role_id}
    user: dict[str, Any] = {"id": row.user_id}
    scope: dict[str, Any] = {"system": {"all": True}}
    place = "system"
    if row.scope_type != queries.SYSTEM:
        scope = {row.scope_type: {"id": row.scope_id}}
        place = f"{row.scope_type}s/{row.scope_id}"
    if names:
        role_record, user_record = queries.role(reader, row.role_id), queries.user(reader, row.user_id)
        if role_record is not None:
            role["name"] = role_record.name
        if user_record is not None:
            user |= {"name": user_record.name, "domain": _named_domain(reader, user_record.domain_id)}
        project = queries.project(reader, row.scope_id) if row.scope_type == queries.PROJECT else None
        if project is not None:
            scope[queries.PROJECT] |= {"name": project.name, "domain": _named_domain(reader, project.domain_id)}
        if row.scope_type == queries.DOMAIN:
            scope[queries.DOMAIN] = _named_domain(reader, row.scope_id)
    link = f"{base}/{place}/users/{row.user_id}/roles/{row.role_id}"
    return {"role": role, "user": user, "scope": scope, "links": {"assignment": link}}


def _named_domain(reader: Reader, domain_id: str) -> dict[str, Any]:
    domain = queries.domain(reader, domain_id)
    return {"id": domain_id, "name": domain.name if domain is not None else None}
