"""How identity records look on the wire. Every object has ``links.self``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from nova_fast.model.errors import BadRequest
from nova_fast.model.identity import (
    ApplicationCredential,
    CatalogEndpoint,
    CatalogService,
    Domain,
    Project,
    Region,
    Role,
    User,
)
from nova_fast.queries import identity as queries
from nova_fast.queries.reading import Reader

Json = dict[str, Any]


def iso(at_us: int) -> str:
    """ISO 8601 with microseconds and Z."""
    seconds, micros = divmod(at_us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{micros:06d}Z"


def from_iso(text: str, field: str) -> int:
    """ISO 8601 → microseconds; without a zone it is UTC. Raises BadRequest."""
    try:
        moment = datetime.fromisoformat(text)
        aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return int(aware.timestamp() * 1_000_000)
    except (ValueError, OverflowError):
        raise BadRequest("It is not a time in ISO 8601.", field=field) from None


def domain(record: Domain, v3: str) -> Json:
    return {
        "id": record.id,
        "name": record.name,
        "description": record.description,
        "enabled": record.enabled,
        "tags": [],
        "options": {},
        "links": {"self": f"{v3}/domains/{record.id}"},
    }


def project(record: Project, v3: str) -> Json:
    return record.extra | {
        "id": record.id,
        "name": record.name,
        "domain_id": record.domain_id,
        "parent_id": record.parent_id,
        "is_domain": False,
        "description": record.description,
        "enabled": record.enabled,
        "tags": list(record.tags),
        "options": {},
        "links": {"self": f"{v3}/projects/{record.id}"},
    }


def user(record: User, v3: str) -> Json:
    body: Json = record.extra | {
        "id": record.id,
        "name": record.name,
        "domain_id": record.domain_id,
        "enabled": record.enabled,
        "password_expires_at": None,
        "options": {},
        "links": {"self": f"{v3}/users/{record.id}"},
    }
    optional = {
        "description": record.description,
        "email": record.email,
        "default_project_id": record.default_project_id,
    }
    return body | {key: value for key, value in optional.items() if value}


def role(record: Role, v3: str) -> Json:
    return {
        "id": record.id,
        "name": record.name,
        "domain_id": record.domain_id,
        "description": record.description or None,
        "options": {},
        "links": {"self": f"{v3}/roles/{record.id}"},
    }


def service(record: CatalogService, v3: str) -> Json:
    return {
        "id": record.id,
        "type": record.type,
        "name": record.name,
        "description": record.description,
        "enabled": record.enabled,
        "links": {"self": f"{v3}/services/{record.id}"},
    }


def endpoint(record: CatalogEndpoint, v3: str) -> Json:
    return {
        "id": record.id,
        "service_id": record.service_id,
        "interface": record.interface,
        "url": record.url,
        "region": record.region_id or None,
        "region_id": record.region_id or None,
        "enabled": record.enabled,
        "links": {"self": f"{v3}/endpoints/{record.id}"},
    }


def region(record: Region, v3: str) -> Json:
    return {
        "id": record.id,
        "description": record.description,
        "parent_region_id": record.parent_region_id,
        "links": {"self": f"{v3}/regions/{record.id}"},
    }


def credential(reader: Reader, record: ApplicationCredential, v3: str) -> Json:
    """An application credential; its secret is shown by the caller once, when it is made."""
    roles = [found for role_id in record.role_ids if (found := queries.role(reader, role_id)) is not None]
    return {
        "id": record.id,
        "name": record.name,
        "description": record.description or None,
        "project_id": record.project_id,
        "user_id": record.user_id,
        "system": None,
        "roles": [{"id": one.id, "name": one.name, "domain_id": one.domain_id} for one in roles],
        "expires_at": iso(record.expires_at_us).rstrip("Z") if record.expires_at_us else None,
        "unrestricted": record.unrestricted,
        "links": {"self": f"{v3}/users/{record.user_id}/application_credentials/{record.id}"},
    }


def catalog(reader: Reader, project_id: str) -> list[Json]:
    """The service catalog as a token carries it, with the project's id put into the URLs that want one."""
    rows = []
    for row in queries.catalog(reader):
        endpoints = [
            {
                "id": one.id,
                "interface": one.interface,
                "region": one.region_id or None,
                "region_id": one.region_id or None,
                "url": url,
            }
            for one in row.endpoints
            if (url := queries.endpoint_url(one.url, project_id)) is not None
        ]
        rows.append({"id": row.service.id, "type": row.service.type, "name": row.service.name, "endpoints": endpoints})
    return rows
