"""Every table and index of the cloud."""

from __future__ import annotations

from collections.abc import Iterable

from nova_fast.model.aggregates import Aggregate
from nova_fast.model.base import Record
from nova_fast.model.decisions import PlacementDecision
from nova_fast.model.flavors import Flavor
from nova_fast.model.hosts import Host, HostNetwork, HostUsage, Service
from nova_fast.model.identity import (
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
from nova_fast.model.images import Image
from nova_fast.model.keyed import KeyedAnswer, KeyedUsage
from nova_fast.model.networks import (
    FloatingIp,
    MembershipChange,
    Network,
    Port,
    Router,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)
from nova_fast.model.placement import Consumer, ResourceClass, ResourceProvider, Trait
from nova_fast.model.quotas import Quota, Usage
from nova_fast.model.server_groups import ServerGroup
from nova_fast.model.servers import KeyPair, Server, ServerAction, UserData
from nova_fast.model.workflows import Task, Workflow
from nova_fast.state.reader import Reader
from nova_fast.state.shown import Shown
from nova_fast.state.table import Index, Table, descending, encode_key

#: Grows when a record can no longer be read by the release before it; a store from the future is refused.
SCHEMA_VERSION = 1
#: When a network or a security group with more ports is renamed, all servers count as changed.
PORTS_LOOKED_AT = 1_000
#: Of a project's id in an index key.
PROJECT_CHARACTERS = 64


class EventRow(Record, frozen=True):
    """One event as it lies in the log."""

    generation: int
    body: bytes


class AddressCursor(Record, frozen=True):
    """Where the next free address of a subnet is looked for."""

    subnet_id: str
    next_address: int


class DoneCommand(Record, frozen=True):
    """The result of a command, kept so that its repetition gives the same answer and does nothing."""

    call_id: str  # 32 hex
    at_us: int
    result: bytes


# ------------------------------------------------------------------------------------------------ shown by servers
def _port_parts(port: Port) -> object:
    return port.network_id, port.index, port.mac_address, port.fixed_ips, port.security_groups, port.device_id


def _servers_on(reader: Reader, host: Host) -> Iterable[bytes]:
    return [bytes(key) for _, key in reader.raw(SERVERS_BY_HOST.name, encode_key((host.name,)))]


def _servers_with_ports(reader: Reader, index: Index[Port], first: str) -> Iterable[bytes] | None:
    ports = list(reader.scan_index(index, first, limit=PORTS_LOOKED_AT + 1))
    if len(ports) > PORTS_LOOKED_AT:
        return None
    return [encode_key((port.device_id,)) for port in ports if port.device_id]


_SERVER_SHOWN: Shown[Server] = Shown(lambda _, r: (encode_key((r.id,)),), lambda r: r)
_USER_DATA_SHOWN: Shown[UserData] = Shown(lambda _, r: (encode_key((r.server_id,)),), lambda r: r)
_PORT_SHOWN: Shown[Port] = Shown(lambda _, r: (encode_key((r.device_id,)),) if r.device_id else (), _port_parts)
_HOST_SHOWN: Shown[Host] = Shown(_servers_on, lambda r: (r.zone, r.up, r.enabled, r.forced_down))
_NETWORK_SHOWN: Shown[Network] = Shown(
    lambda reader, r: _servers_with_ports(reader, PORTS_BY_NETWORK, r.id), lambda r: r.name
)
_GROUP_SHOWN: Shown[SecurityGroup] = Shown(
    lambda reader, r: _servers_with_ports(reader, PORTS_BY_GROUP, r.id), lambda r: r.name
)

# ------------------------------------------------------------------------------------------------ compute
FLAVORS = Table("flavors", Flavor, lambda r: (r.id,))
FLAVORS_BY_NAME = Index(FLAVORS, "flavors_by_name", lambda r: [(r.name,)], unique=True)

AGGREGATES = Table("aggregates", Aggregate, lambda r: (r.id,))
AGGREGATES_BY_NUMBER = Index(AGGREGATES, "aggregates_by_number", lambda r: [(r.number,)], unique=True)
AGGREGATES_BY_NAME = Index(AGGREGATES, "aggregates_by_name", lambda r: [(r.name,)], unique=True)
AGGREGATES_BY_HOST = Index(AGGREGATES, "aggregates_by_host", lambda r: [(host,) for host in r.hosts])

SERVER_GROUPS = Table("server_groups", ServerGroup, lambda r: (r.id,))
SERVER_GROUPS_BY_PROJECT = Index(SERVER_GROUPS, "server_groups_by_project", lambda r: [(r.project_id, r.created_at_us)])

SERVERS = Table("servers", Server, lambda r: (r.id,), shown=_SERVER_SHOWN)
SERVERS_BY_PROJECT = Index(
    SERVERS, "servers_by_project", lambda r: [(r.project_id, descending(r.created_at_us))]
)  # newest first
SERVERS_BY_CREATED = Index(SERVERS, "servers_by_created", lambda r: [(descending(r.created_at_us),)])  # newest first
SERVERS_BY_HOST = Index(SERVERS, "servers_by_host", lambda r: [(r.host,)] if r.host else [])
SERVERS_BY_GROUP = Index(SERVERS, "servers_by_group", lambda r: [(r.group_id, r.host)] if r.group_id else [])
USER_DATA = Table("user_data", UserData, lambda r: (r.server_id,), shown=_USER_DATA_SHOWN)
SERVER_ACTIONS = Table("server_actions", ServerAction, lambda r: (r.server_id, r.request_id))
PLACEMENT_DECISIONS = Table("placement_decisions", PlacementDecision, lambda r: (r.server_id,))
KEY_PAIRS = Table("key_pairs", KeyPair, lambda r: (r.user_id, r.name))

HOSTS = Table("hosts", Host, lambda r: (r.name,), shown=_HOST_SHOWN)
HOSTS_BY_UUID = Index(HOSTS, "hosts_by_uuid", lambda r: [(r.uuid,)], unique=True)
HOSTS_BY_SERVICE_UUID = Index(HOSTS, "hosts_by_service_uuid", lambda r: [(r.service_uuid,)], unique=True)
HOSTS_BY_NUMBER = Index(HOSTS, "hosts_by_number", lambda r: [(r.number,)], unique=True)
HOSTS_BY_ZONE = Index(HOSTS, "hosts_by_zone", lambda r: [(r.zone,)])
HOST_USAGE = Table("host_usage", HostUsage, lambda r: (r.host,))
SERVICES = Table("services", Service, lambda r: (r.name,))
SERVICES_BY_UUID = Index(SERVICES, "services_by_uuid", lambda r: [(r.uuid,)], unique=True)

# What operators said of hosts to placement: few hosts have any, so these hold little.
HOSTS_BY_TRAIT = Index(HOSTS, "hosts_by_trait", lambda r: [(trait,) for trait in r.traits])
HOSTS_BY_AGGREGATE = Index(HOSTS, "hosts_by_aggregate", lambda r: [(uuid,) for uuid in r.aggregates])

# ------------------------------------------------------------------------------------------------ placement
PROVIDERS = Table("providers", ResourceProvider, lambda r: (r.uuid,))
PROVIDERS_BY_NAME = Index(PROVIDERS, "providers_by_name", lambda r: [(r.name,)], unique=True)
PROVIDERS_BY_PARENT = Index(PROVIDERS, "providers_by_parent", lambda r: [(r.parent,)])
PROVIDERS_BY_TRAIT = Index(PROVIDERS, "providers_by_trait", lambda r: [(trait,) for trait in r.traits])
CONSUMERS = Table("consumers", Consumer, lambda r: (r.uuid,))
CONSUMERS_BY_PROVIDER = Index(CONSUMERS, "consumers_by_provider", lambda r: [(share.provider,) for share in r.shares])
# A project's id may be 255 characters of any kind, more than a key can hold: its beginning, and then one looks.
CONSUMERS_BY_PROJECT = Index(CONSUMERS, "consumers_by_project", lambda r: [(r.project_id[:PROJECT_CHARACTERS],)])
TRAITS = Table("traits", Trait, lambda r: (r.name,))
RESOURCE_CLASSES = Table("resource_classes", ResourceClass, lambda r: (r.name,))

QUOTAS = Table("quotas", Quota, lambda r: (r.project_id,))
USAGES = Table("usages", Usage, lambda r: (r.project_id,))

# ------------------------------------------------------------------------------------------------ image
IMAGES = Table("images", Image, lambda r: (r.id,))
IMAGES_BY_CREATED = Index(IMAGES, "images_by_created", lambda r: [(descending(r.created_at_us),)])  # newest first
IMAGES_BY_PROJECT = Index(IMAGES, "images_by_project", lambda r: [(r.project_id, descending(r.created_at_us))])

# ------------------------------------------------------------------------------------------------ network
NETWORKS = Table("networks", Network, lambda r: (r.id,), shown=_NETWORK_SHOWN)
NETWORKS_BY_PROJECT = Index(NETWORKS, "networks_by_project", lambda r: [(r.project_id,)])
SUBNETS = Table("subnets", Subnet, lambda r: (r.id,))
SUBNETS_BY_NETWORK = Index(SUBNETS, "subnets_by_network", lambda r: [(r.network_id,)])
ADDRESS_CURSORS = Table("address_cursors", AddressCursor, lambda r: (r.subnet_id,))
PORTS = Table("ports", Port, lambda r: (r.id,), shown=_PORT_SHOWN)
PORTS_BY_NETWORK: Index[Port] = Index(PORTS, "ports_by_network", lambda r: [(r.network_id, r.host)])
PORTS_BY_DEVICE = Index(PORTS, "ports_by_device", lambda r: [(r.device_id, r.index)] if r.device_id else [])
PORTS_BY_HOST = Index(PORTS, "ports_by_host", lambda r: [(r.host,)] if r.host else [])
PORTS_BY_MAC = Index(PORTS, "ports_by_mac", lambda r: [(r.network_id, r.mac_address)], unique=True)
PORTS_BY_ADDRESS = Index(
    PORTS, "ports_by_address", lambda r: [(r.network_id, ip.ip_address) for ip in r.fixed_ips], unique=True
)
PORTS_BY_SUBNET = Index(PORTS, "ports_by_subnet", lambda r: [(ip.subnet_id,) for ip in r.fixed_ips])
PORTS_BY_GROUP: Index[Port] = Index(PORTS, "ports_by_group", lambda r: [(group, r.host) for group in r.security_groups])
SECURITY_GROUPS = Table("security_groups", SecurityGroup, lambda r: (r.id,), shown=_GROUP_SHOWN)
SECURITY_GROUPS_BY_PROJECT = Index(SECURITY_GROUPS, "security_groups_by_project", lambda r: [(r.project_id, r.name)])
SECURITY_GROUP_RULES = Table("security_group_rules", SecurityGroupRule, lambda r: (r.id,))
RULES_BY_GROUP = Index(SECURITY_GROUP_RULES, "rules_by_group", lambda r: [(r.security_group_id,)])
RULES_BY_REMOTE_GROUP = Index(
    SECURITY_GROUP_RULES, "rules_by_remote_group", lambda r: [(r.remote_group_id,)] if r.remote_group_id else []
)
MEMBERSHIP_CHANGES = Table("membership_changes", MembershipChange, lambda r: (r.row,))
HOST_NETWORKS = Table("host_networks", HostNetwork, lambda r: (r.host,))
HOST_NETWORKS_DIRTY = Index(
    HOST_NETWORKS, "host_networks_dirty", lambda r: [(r.host,)] if r.applied_generation < r.wanted_generation else []
)
ROUTERS = Table("routers", Router, lambda r: (r.id,))
FLOATING_IPS = Table("floating_ips", FloatingIp, lambda r: (r.id,))

# ------------------------------------------------------------------------------------------------ identity
DOMAINS = Table("domains", Domain, lambda r: (r.id,), identity=True)
DOMAINS_BY_NAME = Index(DOMAINS, "domains_by_name", lambda r: [(r.name,)], unique=True)
PROJECTS = Table("projects", Project, lambda r: (r.id,), identity=True)
PROJECTS_BY_NAME = Index(PROJECTS, "projects_by_name", lambda r: [(r.domain_id, r.name)], unique=True)
USERS = Table("users", User, lambda r: (r.id,), identity=True)
USERS_BY_NAME = Index(USERS, "users_by_name", lambda r: [(r.domain_id, r.name)], unique=True)
ROLES = Table("roles", Role, lambda r: (r.id,), identity=True)
ROLES_BY_NAME = Index(ROLES, "roles_by_name", lambda r: [(r.domain_id or "", r.name)], unique=True)
ASSIGNMENTS = Table(
    "assignments", RoleAssignment, lambda r: (r.user_id, r.scope_type, r.scope_id, r.role_id), identity=True
)
ASSIGNMENTS_BY_SCOPE = Index(ASSIGNMENTS, "assignments_by_scope", lambda r: [(r.scope_type, r.scope_id)])
ASSIGNMENTS_BY_ROLE = Index(ASSIGNMENTS, "assignments_by_role", lambda r: [(r.role_id,)])
APPLICATION_CREDENTIALS = Table("application_credentials", ApplicationCredential, lambda r: (r.id,), identity=True)
APPLICATION_CREDENTIALS_BY_USER = Index(
    APPLICATION_CREDENTIALS, "application_credentials_by_user", lambda r: [(r.user_id, r.name)], unique=True
)
APPLICATION_CREDENTIALS_BY_PROJECT = Index(
    APPLICATION_CREDENTIALS, "application_credentials_by_project", lambda r: [(r.project_id,)]
)
CATALOG_SERVICES = Table("catalog_services", CatalogService, lambda r: (r.id,), identity=True)
CATALOG_ENDPOINTS = Table("catalog_endpoints", CatalogEndpoint, lambda r: (r.id,), identity=True)
ENDPOINTS_BY_SERVICE = Index(CATALOG_ENDPOINTS, "endpoints_by_service", lambda r: [(r.service_id,)])
REGIONS = Table("regions", Region, lambda r: (r.id,), identity=True)
REVOKED_TOKENS = Table("revoked_tokens", RevokedToken, lambda r: (r.audit_id,), identity=True)
REVOKED_BY_EXPIRY = Index(REVOKED_TOKENS, "revoked_by_expiry", lambda r: [(r.expires_at_us,)])
SECRETS = Table("secrets", Secret, lambda r: (r.name,), identity=True)


# ------------------------------------------------------------------------------------------------ the conductor's own
def _turn(workflow: Workflow) -> tuple[str, ...]:
    """Those that are queued come last, the oldest first. SAFETY: an id begins with a hexadecimal digit."""
    if not workflow.queued:
        return (workflow.server_id,)
    return "~", f"{workflow.started_at_us:020}", workflow.server_id


WORKFLOWS = Table("workflows", Workflow, lambda r: (r.server_id,))
WORKFLOWS_READY: Index[Workflow] = Index(WORKFLOWS, "workflows_ready", lambda r: [] if r.task_id else [_turn(r)])
TASKS = Table("tasks", Task, lambda r: (r.id,))
DONE_COMMANDS = Table("done_commands", DoneCommand, lambda r: (r.call_id,))
DONE_BY_TIME = Index(DONE_COMMANDS, "done_by_time", lambda r: [(r.at_us,)])
KEYED_ANSWERS = Table("keyed_answers", KeyedAnswer, lambda r: (r.id,))
KEYED_BY_TIME = Index(KEYED_ANSWERS, "keyed_by_time", lambda r: [(r.at_us,)])
KEYED_BY_OWNER = Index(KEYED_ANSWERS, "keyed_by_owner", lambda r: [(r.owner, r.at_us)])
KEYED_USAGE = Table("keyed_usage", KeyedUsage, lambda r: (r.owner,))
EVENTS = Table("events", EventRow, lambda r: (r.generation,))

TABLES: tuple[Table, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Table))  # type: ignore[type-arg]
#: The table of each database of the engine: its own, and those of its indexes.
TABLE_OF = {table.name: table for table in TABLES} | {index.name: table for table in TABLES for index in table.indexes}
#: Indexes that an older release had; they are dropped when the store is opened, and made anew if it comes back.
RETIRED = ("servers_by_image", "ports_by_project", "tasks_by_peer", "tasks_by_deadline")
