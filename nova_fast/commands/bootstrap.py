"""Setting a cloud up: the domain, roles, project, user, region, catalog and flavors every client expects to find.

Idempotent: on a cloud that is there only the URLs of the catalog are brought up to date, so that the cloud can move to
another address; the password, the token key and whatever an admin has changed stay.
"""

from __future__ import annotations

import msgspec

from nova_fast.commands.registry import command
from nova_fast.model.commands.identity import Bootstrap, BootstrapResult, CatalogEntry
from nova_fast.model.flavors import CLASSICAL_FLAVORS
from nova_fast.model.identity import (
    BOOTSTRAP_ROLES,
    DEFAULT_DOMAIN_ID,
    CatalogEndpoint,
    CatalogService,
    Domain,
    Project,
    Region,
    Role,
    RoleAssignment,
    Secret,
    User,
)
from nova_fast.queries import identity as queries
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

ADMIN = "admin"


@command(Bootstrap)
def bootstrap(tx: Transaction, request: Bootstrap) -> BootstrapResult:
    """Set a cloud up, or bring its catalog up to date."""
    assert len(request.token_key) == 32, "the token key is 32 bytes"
    secret = queries.secret(tx, queries.TOKEN_KEY)
    created = secret is None
    if created:
        _found(tx, request)
    _write_catalog(tx, request.region, request.catalog)
    user = queries.user_by_name(tx, DEFAULT_DOMAIN_ID, ADMIN)
    project = queries.project_by_name(tx, DEFAULT_DOMAIN_ID, ADMIN)
    return BootstrapResult(
        created=created,
        admin_user_id=user.id if user is not None else "",
        admin_project_id=project.id if project is not None else "",
    )


def _found(tx: Transaction, request: Bootstrap) -> None:
    now_us = tx.now_us
    tx.insert(tables.SECRETS, Secret(name=queries.TOKEN_KEY, value=request.token_key, created_at_us=now_us))
    tx.insert(tables.DOMAINS, Domain(id=DEFAULT_DOMAIN_ID, name="Default", created_at_us=now_us))
    roles = {name: Role(id=tx.new_hex(), name=name, created_at_us=now_us) for name in BOOTSTRAP_ROLES}
    for role in roles.values():
        tx.insert(tables.ROLES, role)
    project = Project(
        id=tx.new_hex(), domain_id=DEFAULT_DOMAIN_ID, name=ADMIN, parent_id=DEFAULT_DOMAIN_ID, created_at_us=now_us,
        description="Bootstrap project for initializing the cloud.",
    )  # fmt: skip
    tx.insert(tables.PROJECTS, project)
    user = User(
        id=tx.new_hex(), domain_id=DEFAULT_DOMAIN_ID, name=ADMIN, password_hash=request.admin_password_hash,
        created_at_us=now_us,
    )  # fmt: skip
    tx.insert(tables.USERS, user)
    for scope_type, scope_id in ((queries.PROJECT, project.id), (queries.SYSTEM, queries.SYSTEM_SCOPE_ID)):
        assignment = RoleAssignment(user_id=user.id, scope_type=scope_type, scope_id=scope_id, role_id=roles[ADMIN].id)
        tx.insert(tables.ASSIGNMENTS, assignment)
    for flavor in CLASSICAL_FLAVORS:
        tx.insert(tables.FLAVORS, msgspec.structs.replace(flavor, created_at_us=now_us))


def _write_catalog(tx: Transaction, region_id: str, entries: tuple[CatalogEntry, ...]) -> None:
    if tx.get(tables.REGIONS, region_id) is None:
        tx.insert(tables.REGIONS, Region(id=region_id))
    for entry in entries:
        service = next((s for s in queries.services(tx) if s.type == entry.type), None)
        if service is None:
            service = CatalogService(id=tx.new_hex(), type=entry.type, name=entry.name)
            tx.insert(tables.CATALOG_SERVICES, service)
        urls = {"public": entry.public_url, "internal": entry.internal_url, "admin": entry.admin_url}
        for interface, url in urls.items():
            _write_endpoint(tx, service.id, interface, url, region_id)


def _write_endpoint(tx: Transaction, service_id: str, interface: str, url: str, region_id: str) -> None:
    existing = [
        endpoint
        for endpoint in tx.scan_index(tables.ENDPOINTS_BY_SERVICE, service_id)
        if endpoint.interface == interface and endpoint.region_id == region_id
    ]
    if not existing:
        endpoint = CatalogEndpoint(
            id=tx.new_hex(), service_id=service_id, interface=interface, url=url, region_id=region_id
        )
        tx.insert(tables.CATALOG_ENDPOINTS, endpoint)
    elif existing[0].url != url:
        tx.put(tables.CATALOG_ENDPOINTS, msgspec.structs.replace(existing[0], url=url))
