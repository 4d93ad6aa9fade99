"""Projects and domains: who owns things."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nova_fast.api.framework.request import Request
from nova_fast.api.identity import shapes
from nova_fast.api.identity.face import Options, face, found, split_extra, v3
from nova_fast.api.identity.listing import listing
from nova_fast.model.commands.identity import (
    CreateDomain,
    CreateProject,
    DeleteDomain,
    DeleteProject,
    UpdateDomain,
    UpdateProject,
)
from nova_fast.model.errors import BadRequest, Forbidden
from nova_fast.queries import identity as queries

DomainName = Annotated[str, Meta(min_length=1, max_length=64)]
ProjectName = Annotated[str, Meta(min_length=1, max_length=64)]
Text = Annotated[str, Meta(max_length=1000)]
Tag = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^,/]*$")]
Tags = Annotated[list[Tag], Meta(max_length=80)]


class ProjectBody(msgspec.Struct, forbid_unknown_fields=True):
    project: dict[str, Any]


class NewProject(msgspec.Struct):
    """The known fields of a new project; it may have others."""

    name: ProjectName
    domain_id: str | None = None
    parent_id: str | None = None
    is_domain: bool = False
    description: Text | None = None
    enabled: bool = True
    tags: Tags = []
    options: Options = Options()


class ChangedProject(msgspec.Struct):
    name: ProjectName | None = None
    domain_id: str | None = None
    description: Text | None = None
    enabled: bool | None = None
    tags: Tags | None = None
    options: Options = Options()
    id: str | None = None
    parent_id: str | None = None
    is_domain: bool | None = None
    links: dict[str, Any] | None = None


class NewDomain(msgspec.Struct, forbid_unknown_fields=True):
    name: DomainName
    description: Text | None = None
    enabled: bool = True
    options: Options = Options()


class NewDomainBody(msgspec.Struct, forbid_unknown_fields=True):
    domain: NewDomain


class ChangedDomain(msgspec.Struct, forbid_unknown_fields=True):
    name: DomainName | None = None
    description: Text | None = None
    enabled: bool | None = None
    options: Options = Options()


class ChangedDomainBody(msgspec.Struct, forbid_unknown_fields=True):
    domain: ChangedDomain


# ---------------------------------------------------------------------- projects


@face.route("GET", "/projects", policy="system-reader")
async def list_projects(request: Request) -> dict[str, Any]:
    """All projects."""
    with request.snapshot() as reader:
        rows = [shapes.project(one, v3(request)) for one in queries.projects(reader)]
    wanted = {
        key: value for key, value in request.query_pairs() if key in ("tags", "tags-any", "not-tags", "not-tags-any")
    }
    kept = [row for row in rows if _has_tags(set(row["tags"]), wanted)]
    return listing(request, "projects", kept, ("name", "domain_id", "parent_id", "enabled", "is_domain"))


def _has_tags(tags: set[str], wanted: dict[str, str]) -> bool:
    asked = {key: set(value.split(",")) for key, value in wanted.items()}
    return (
        asked.get("tags", set()) <= tags
        and ("tags-any" not in asked or bool(asked["tags-any"] & tags))
        and ("not-tags" not in asked or not asked["not-tags"] <= tags)
        and not asked.get("not-tags-any", set()) & tags
    )


@face.route("POST", "/projects", ok=201, errors=(400, 404, 409), policy="admin", body=ProjectBody)
async def create_project(request: Request) -> dict[str, Any]:
    """Make a project."""
    new, extra = split_extra(request.body.project, NewProject)
    if new.is_domain:
        raise BadRequest("A project that acts as a domain is made with POST /v3/domains.", field="is_domain")
    domain_id = new.domain_id
    if domain_id is None and new.parent_id:
        with request.snapshot() as reader:
            parent = queries.project(reader, new.parent_id)
            domain = queries.domain(reader, new.parent_id)
        domain_id = parent.domain_id if parent is not None else domain.id if domain is not None else None
    command = CreateProject(
        caller=request.caller,
        name=new.name,
        domain_id=domain_id or request.caller.domain_id,
        parent_id=new.parent_id or "",
        description=new.description or "",
        enabled=new.enabled,
        tags=tuple(dict.fromkeys(new.tags)),
        extra=extra,
    )
    return {"project": shapes.project((await request.command(command)).project, v3(request))}


@face.route("GET", "/projects/{project_id}", errors=(403, 404), policy="owner-user")
async def show_project(request: Request, project_id: str) -> dict[str, Any]:
    """One project: any for an admin, his own for everybody."""
    caller = request.caller
    if not caller.is_admin and not (caller.system and "reader" in caller.roles) and caller.project_id != project_id:
        raise Forbidden("You are not authorized to perform the requested action: identity:get_project.")
    with request.snapshot() as reader:
        project = found(queries.project(reader, project_id), "project", project_id)
    return {"project": shapes.project(project, v3(request))}


@face.route("PATCH", "/projects/{project_id}", errors=(400, 404, 409), policy="admin", body=ProjectBody)
async def update_project(request: Request, project_id: str) -> dict[str, Any]:
    """Change a project."""
    changed, extra = split_extra(request.body.project, ChangedProject)
    with request.snapshot() as reader:
        project = found(queries.project(reader, project_id), "project", project_id)
    for name in ("domain_id", "id", "parent_id"):
        if getattr(changed, name) not in (None, getattr(project, name)):
            raise BadRequest("It cannot be changed.", field=name)
    command = UpdateProject(
        caller=request.caller,
        project_id=project_id,
        name=changed.name,
        description=changed.description,
        enabled=changed.enabled,
        tags=tuple(dict.fromkeys(changed.tags)) if changed.tags is not None else None,
        extra=extra,
    )
    return {"project": shapes.project((await request.command(command)).project, v3(request))}


@face.route("DELETE", "/projects/{project_id}", ok=204, errors=(404, 409), policy="admin")
async def delete_project(request: Request, project_id: str) -> None:
    """Remove a project that owns nothing any more."""
    await request.command(DeleteProject(caller=request.caller, project_id=project_id))


# ---------------------------------------------------------------------- domains


@face.route("GET", "/domains", policy="system-reader")
async def list_domains(request: Request) -> dict[str, Any]:
    """All domains."""
    with request.snapshot() as reader:
        rows = [shapes.domain(one, v3(request)) for one in queries.domains(reader)]
    return listing(request, "domains", rows, ("name", "enabled"))


@face.route("POST", "/domains", ok=201, errors=(400, 409), policy="admin", body=NewDomainBody)
async def create_domain(request: Request) -> dict[str, Any]:
    """Make a domain."""
    new = request.body.domain
    command = CreateDomain(caller=request.caller, name=new.name, description=new.description or "", enabled=new.enabled)
    return {"domain": shapes.domain((await request.command(command)).domain, v3(request))}


@face.route("GET", "/domains/{domain_id}", errors=(403, 404), policy="owner-user")
async def show_domain(request: Request, domain_id: str) -> dict[str, Any]:
    """One domain: any for an admin, his own for everybody."""
    caller = request.caller
    if not caller.is_admin and not (caller.system and "reader" in caller.roles) and caller.domain_id != domain_id:
        raise Forbidden("You are not authorized to perform the requested action: identity:get_domain.")
    with request.snapshot() as reader:
        domain = found(queries.domain(reader, domain_id), "domain", domain_id)
    return {"domain": shapes.domain(domain, v3(request))}


@face.route("PATCH", "/domains/{domain_id}", errors=(400, 403, 404, 409), policy="admin", body=ChangedDomainBody)
async def update_domain(request: Request, domain_id: str) -> dict[str, Any]:
    """Change a domain; while it is disabled nobody of it can log in."""
    changed = request.body.domain
    command = UpdateDomain(
        caller=request.caller,
        domain_id=domain_id,
        name=changed.name,
        description=changed.description,
        enabled=changed.enabled,
    )
    return {"domain": shapes.domain((await request.command(command)).domain, v3(request))}


@face.route("DELETE", "/domains/{domain_id}", ok=204, errors=(403, 404, 409), policy="admin")
async def delete_domain(request: Request, domain_id: str) -> None:
    """Remove a disabled domain and its users."""
    await request.command(DeleteDomain(caller=request.caller, domain_id=domain_id))
