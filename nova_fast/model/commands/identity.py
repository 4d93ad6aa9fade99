"""What can be asked of identity: domains, projects, users, roles, the catalog, application credentials, revocation.

In every ``Update…`` None leaves a field as it is. Passwords and secrets come as hashes only.
"""

from __future__ import annotations

from nova_fast.model.base import Message, Value
from nova_fast.model.identity import (
    AccessRule,
    ApplicationCredential,
    Caller,
    CatalogEndpoint,
    CatalogService,
    Domain,
    Project,
    Region,
    Role,
    User,
)


class CreateDomain(Message, frozen=True):
    """Make a domain. → DomainResult. Raises Conflict when its name is taken."""

    caller: Caller
    name: str
    description: str = ""
    enabled: bool = True


class UpdateDomain(Message, frozen=True):
    """Change a domain. → DomainResult. The default domain cannot be disabled."""

    caller: Caller
    domain_id: str
    name: str | None = None
    description: str | None = None
    enabled: bool | None = None


class DeleteDomain(Message, frozen=True):
    """Remove a disabled domain without projects; its users go with it. → DomainResult."""

    caller: Caller
    domain_id: str


class CreateProject(Message, frozen=True):
    """Make a project. → ProjectResult. Raises Conflict when its name is taken in the domain."""

    caller: Caller
    name: str
    domain_id: str
    parent_id: str = ""  # "" = the domain
    description: str = ""
    enabled: bool = True
    tags: tuple[str, ...] = ()
    extra: dict[str, str] = {}


class UpdateProject(Message, frozen=True):
    """Change a project; ``extra`` is merged. → ProjectResult."""

    caller: Caller
    project_id: str
    name: str | None = None
    description: str | None = None
    enabled: bool | None = None
    tags: tuple[str, ...] | None = None
    extra: dict[str, str] = {}


class DeleteProject(Message, frozen=True):
    """Remove a project that owns nothing; assignments and application credentials go with it. → ProjectResult."""

    caller: Caller
    project_id: str


class CreateUser(Message, frozen=True):
    """Make a user. → UserResult. Raises Conflict when the name is taken in the domain."""

    caller: Caller
    name: str
    domain_id: str
    password_hash: str = ""
    enabled: bool = True
    description: str = ""
    email: str = ""
    default_project_id: str = ""
    extra: dict[str, str] = {}


class UpdateUser(Message, frozen=True):
    """Change a user; another password voids his tokens. ``extra`` is merged. → UserResult."""

    caller: Caller
    user_id: str
    name: str | None = None
    password_hash: str | None = None
    enabled: bool | None = None
    description: str | None = None
    email: str | None = None
    default_project_id: str | None = None
    extra: dict[str, str] = {}


class DeleteUser(Message, frozen=True):
    """Remove a user with his assignments, application credentials and key pairs. → UserResult."""

    caller: Caller
    user_id: str


class CreateRole(Message, frozen=True):
    """Make a role. → RoleResult. Raises Conflict when its name is taken."""

    caller: Caller
    name: str
    domain_id: str | None = None
    description: str = ""


class UpdateRole(Message, frozen=True):
    """Change a role; those the cloud itself relies on keep their name. → RoleResult."""

    caller: Caller
    role_id: str
    name: str | None = None
    description: str | None = None


class DeleteRole(Message, frozen=True):
    """Remove a role with its assignments; those the cloud itself relies on stay (Forbidden). → RoleResult."""

    caller: Caller
    role_id: str


class ChangeAssignment(Message, frozen=True):
    """Give a user a role on a scope (twice is once), or take it away (NotFound when he has it not). → RoleResult."""

    caller: Caller
    user_id: str
    role_id: str
    scope_type: str  # project, domain, system
    scope_id: str  # project id, domain id, "all"
    present: bool


class CreateService(Message, frozen=True):
    """Add a service to the catalog. → ServiceResult."""

    caller: Caller
    service_type: str
    name: str = ""
    description: str = ""
    enabled: bool = True


class UpdateService(Message, frozen=True):
    """Change a service. → ServiceResult."""

    caller: Caller
    service_id: str
    service_type: str | None = None
    name: str | None = None
    description: str | None = None
    enabled: bool | None = None


class DeleteService(Message, frozen=True):
    """Remove a service and its endpoints. → ServiceResult."""

    caller: Caller
    service_id: str


class CreateEndpoint(Message, frozen=True):
    """Add an endpoint to a service; its region is made when it is new. → EndpointResult."""

    caller: Caller
    service_id: str
    interface: str  # public, internal, admin
    url: str
    region_id: str = ""
    enabled: bool = True


class UpdateEndpoint(Message, frozen=True):
    """Change an endpoint. → EndpointResult."""

    caller: Caller
    endpoint_id: str
    service_id: str | None = None
    interface: str | None = None
    url: str | None = None
    region_id: str | None = None
    enabled: bool | None = None


class DeleteEndpoint(Message, frozen=True):
    """Remove an endpoint. → EndpointResult."""

    caller: Caller
    endpoint_id: str


class CreateRegion(Message, frozen=True):
    """Make a region. → RegionResult. Raises Conflict when its id is taken."""

    caller: Caller
    id: str = ""  # "" = choose one
    description: str = ""
    parent_region_id: str | None = None


class UpdateRegion(Message, frozen=True):
    """Change a region; "" as parent clears it. → RegionResult."""

    caller: Caller
    region_id: str
    description: str | None = None
    parent_region_id: str | None = None


class DeleteRegion(Message, frozen=True):
    """Remove a region that has neither endpoints nor children. → RegionResult."""

    caller: Caller
    region_id: str


class CreateApplicationCredential(Message, frozen=True):
    """Let a program act for a user in a project with some of his roles. → CredentialResult."""

    caller: Caller
    user_id: str
    project_id: str
    name: str
    secret_hash: str
    role_ids: tuple[str, ...]
    expires_at_us: int = 0
    description: str = ""
    unrestricted: bool = False
    access_rules: tuple[AccessRule, ...] = ()


class DeleteApplicationCredential(Message, frozen=True):
    """Remove an application credential of a user. → CredentialResult."""

    caller: Caller
    user_id: str
    credential_id: str


class RevokeToken(Message, frozen=True):
    """Void a token before it ends. → TokenRevoked. Also forgets revocations that have outlived their tokens."""

    caller: Caller
    audit_id: str
    expires_at_us: int


class CatalogEntry(Value, frozen=True):
    """A service of a new cloud and its three URLs."""

    type: str  # identity, compute, image, network, placement
    name: str
    public_url: str
    internal_url: str
    admin_url: str


class Bootstrap(Message, frozen=True):
    """Set a cloud up: what every client expects to find. → BootstrapResult. Again: only the catalog's URLs change."""

    admin_password_hash: str
    token_key: bytes  # 32 random bytes
    region: str
    catalog: tuple[CatalogEntry, ...]


class BootstrapResult(Message, frozen=True):
    created: bool  # False = the cloud was there already
    admin_user_id: str
    admin_project_id: str


class DomainResult(Message, frozen=True):
    domain: Domain


class ProjectResult(Message, frozen=True):
    project: Project


class UserResult(Message, frozen=True):
    user: User


class RoleResult(Message, frozen=True):
    role: Role


class ServiceResult(Message, frozen=True):
    service: CatalogService


class EndpointResult(Message, frozen=True):
    endpoint: CatalogEndpoint


class RegionResult(Message, frozen=True):
    region: Region


class CredentialResult(Message, frozen=True):
    credential: ApplicationCredential


class TokenRevoked(Message, frozen=True):
    pass


COMMANDS = (
    CreateDomain,
    UpdateDomain,
    DeleteDomain,
    CreateProject,
    UpdateProject,
    DeleteProject,
    CreateUser,
    UpdateUser,
    DeleteUser,
    CreateRole,
    UpdateRole,
    DeleteRole,
    ChangeAssignment,
    CreateService,
    UpdateService,
    DeleteService,
    CreateEndpoint,
    UpdateEndpoint,
    DeleteEndpoint,
    CreateRegion,
    UpdateRegion,
    DeleteRegion,
    CreateApplicationCredential,
    DeleteApplicationCredential,
    RevokeToken,
    Bootstrap,
)
RESULTS = (
    DomainResult,
    ProjectResult,
    UserResult,
    RoleResult,
    ServiceResult,
    EndpointResult,
    RegionResult,
    CredentialResult,
    TokenRevoked,
    BootstrapResult,
)
