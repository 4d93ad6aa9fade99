"""Who may do what: domains, projects, users, roles, assignments, credentials, the service catalog."""

from __future__ import annotations

from nova_fast.model.base import Record, Value

DEFAULT_DOMAIN_ID = "default"
#: role → the role it implies (admin ⊃ manager ⊃ member ⊃ reader)
IMPLIED_ROLES = {"admin": "manager", "manager": "member", "member": "reader"}
BOOTSTRAP_ROLES = ("admin", "manager", "member", "reader", "service")


class Domain(Record, frozen=True):
    id: str
    name: str
    description: str = ""
    enabled: bool = True
    created_at_us: int = 0


class Project(Record, frozen=True):
    id: str
    domain_id: str
    name: str
    parent_id: str
    description: str = ""
    enabled: bool = True
    tags: tuple[str, ...] = ()
    created_at_us: int = 0
    extra: dict[str, str] = {}


class User(Record, frozen=True):
    id: str
    domain_id: str
    name: str
    password_hash: str  # argon2id; "" = cannot log in with a password
    enabled: bool = True
    description: str = ""
    email: str = ""
    default_project_id: str = ""
    created_at_us: int = 0
    tokens_valid_from_us: int = 0  # older tokens are void: set when the password changes
    extra: dict[str, str] = {}


class Role(Record, frozen=True):
    id: str
    name: str
    domain_id: str | None = None
    description: str = ""
    created_at_us: int = 0


class RoleAssignment(Record, frozen=True):
    """A role of a user on a project, a domain or the system."""

    user_id: str
    scope_type: str  # project, domain, system
    scope_id: str  # project id, domain id, "all"
    role_id: str


class AccessRule(Value, frozen=True):
    id: str
    path: str
    method: str
    service: str


class ApplicationCredential(Record, frozen=True):
    id: str
    user_id: str
    project_id: str
    name: str
    secret_hash: str
    role_ids: tuple[str, ...]
    created_at_us: int
    expires_at_us: int = 0  # 0 = never
    description: str = ""
    unrestricted: bool = False
    access_rules: tuple[AccessRule, ...] = ()


class CatalogService(Record, frozen=True):
    id: str
    type: str
    name: str
    description: str = ""
    enabled: bool = True


class CatalogEndpoint(Record, frozen=True):
    id: str
    service_id: str
    interface: str  # public, internal, admin
    url: str
    region_id: str
    enabled: bool = True


class Region(Record, frozen=True):
    id: str
    description: str = ""
    parent_region_id: str | None = None


class RevokedToken(Record, frozen=True):
    """A token that was given back before it ended; the row may go when the token would have ended."""

    audit_id: str
    expires_at_us: int


class Secret(Record, frozen=True):
    """A key of the cloud itself (token signing, …)."""

    name: str
    value: bytes
    created_at_us: int


class Caller(Value, frozen=True):
    """Who asks: made by the identity room from a verified token, carried by every command of a face."""

    user_id: str
    project_id: str  # "" = not scoped to a project
    roles: tuple[str, ...]  # names, implied roles included
    domain_id: str = DEFAULT_DOMAIN_ID
    system: bool = False  # scoped to the system
    request_id: str = ""  # req-<uuid>

    @property
    def is_admin(self) -> bool:
        return "admin" in self.roles

    def may_see(self, project_id: str) -> bool:
        """Whether objects of this project exist for the caller at all (else 404)."""
        return self.project_id == project_id or self.is_admin
