"""Everything a project can own, and for every declared route a request that means it.

Tests that walk the declarations get from here: a path with real ids, a body made from the declared type, callers of
every kind, and a fingerprint of the whole store, which says whether anything changed.
"""

from __future__ import annotations

import hashlib
import http.client
import json as jsonlib
import re
from typing import TYPE_CHECKING, Any

import msgspec

from nova_fast.api.app import load_face
from nova_fast.api.framework.route import LAST_VERSION, Face, Route
from nova_fast.api.framework.versions import show_version
from nova_fast.hub.peer import Peer
from nova_fast.model.commands.placement import CreateProvider, SetInventories
from nova_fast.model.hosts import Inventory
from nova_fast.model.tasks import AskCapacity, Capacity, ConsoleOutput
from nova_fast.state import schema as tables
from tests.api.server_world import IMAGE_ID, World

if TYPE_CHECKING:
    from tests.api.conftest import Client, Cloud, Reply

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl user@host"
OTHER_ID = "00000000-0000-4000-8000-0000000000ff"  # of nothing
SECRET = "spoon-fork-knife-7731"
#: What any request may be answered with: declarations name only what is special to a route.
COMMON = frozenset({400, 401, 403, 404, 405, 406, 413, 415, 429, 503})
#: The kinds of objects that belong to one project or one user: by the parameter that names them.
OWNED = frozenset(
    {
        "server_id", "image_id", "network_id", "subnet_id", "port_id", "group_id", "rule_id", "resource_id",
        "server_group_id",
    }
)  # fmt: skip
_PARAMETER = re.compile(r"{(\w+)}")


class ConsolePeer(Peer):
    """A link to daemons that know two things: the console log, and that there is no room."""

    def __init__(self) -> None:
        """Without a socket."""

    async def call(self, message: Any, *args: Any, **kwargs: Any) -> Any:
        return Capacity(servers=0, hosts=0) if isinstance(message, AskCapacity) else ConsoleOutput(text="login: ")


def declared(name: str) -> Face:
    face = load_face(name)
    assert face is not None
    return face


def statuses(route: Route) -> set[int]:
    """What the declaration says this route answers, errors included."""
    ok = set(route.ok.values()) if isinstance(route.ok, dict) else {route.ok}
    return ok | set(route.errors)


def body_type(route: Route) -> Any:
    """The body of the newest microversion at which the route is there."""
    if not isinstance(route.body, dict):
        return route.body
    return max(route.body.items(), key=lambda entry: [int(part) for part in entry[0].split(".")])[1]


def label(route: Route) -> str:
    return f"{route.method} {route.path} {route.action or ''}".rstrip()


class Surface:
    """A cloud in which project p1 owns one of everything, and p2 nothing."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.world = World(cloud)
        self.member = self.world.member
        self.admin = cloud.admin
        self.foreign = cloud.project("p2").member
        self.victim = cloud.project("p3").member  # whom admins may change
        self._connections: dict[str, http.client.HTTPConnection] = {}
        self.ids = self._own_things()

    def _make(self, face: str, path: str, body: Any, client: Client | None = None) -> Any:
        reply = (client or self.member).post(face, path, json=body, microversion="2.96")
        assert reply.status in (200, 201), reply.body
        return reply.json

    def _first(self, path: str, key: str) -> str:
        return str(self.admin.get("identity", path).json[key][0]["id"])

    def _own_things(self) -> dict[str, str]:
        group = self._make("network", "/v2.0/security-groups", {"security_group": {"name": "g"}})["security_group"]
        rule = {"security_group_id": group["id"], "direction": "ingress", "protocol": "tcp"}
        port = {"port": {"network_id": self.world.network_id, "name": "spare"}}
        image = {"name": "mine", "disk_format": "raw", "container_format": "bare", "visibility": "shared"}
        self._make("compute", "/v2.1/os-keypairs", {"keypair": {"name": "key", "public_key": SSH_KEY}})
        credentials = f"/v3/users/{self.victim.user_id}/application_credentials"
        credential = self._make(
            "identity", credentials, {"application_credential": {"name": "c", "secret": SECRET}}, self.victim
        )
        domain = self._make("identity", "/v3/domains", {"domain": {"name": "d"}}, self.admin)
        servers_group = {"server_group": {"name": "g", "policy": "affinity"}}
        affinity = self._make("compute", "/v2.1/os-server-groups", servers_group)["server_group"]
        aggregate = self._make("compute", "/v2.1/os-aggregates", {"aggregate": {"name": "a"}}, self.admin)["aggregate"]
        role = self._make("identity", "/v3/roles", {"role": {"name": "r"}}, self.admin)
        self.world.active(metadata={"key": "value"}, tags=["key"])
        servers = self.world.get("/servers").json["servers"]
        subnet = self.member.get("network", "/v2.0/subnets").json["subnets"][0]
        return {
            "server_id": servers[0]["id"], "image_id": self._make("image", "/v2/images", image)["id"],
            "network_id": self.world.network_id, "subnet_id": subnet["id"], "group_id": group["id"],
            "rule_id": self._make(
                "network", "/v2.0/security-group-rules", {"security_group_rule": rule}
            )["security_group_rule"]["id"],
            "port_id": self._make("network", "/v2.0/ports", port)["port"]["id"],
            "credential_id": credential["application_credential"]["id"], "domain_id": domain["domain"]["id"],
            "role_id": role["role"]["id"], "user_id": self.victim.user_id, "project_id": self.victim.project_id,
            "service_id": self._first("/v3/services", "services"), "region_id": self._first("/v3/regions", "regions"),
            "endpoint_id": self._first("/v3/endpoints", "endpoints"), "flavor_id": "1", "key": "key", "tag": "key",
            "host_name": "h1", "hypervisor_id": "1", "pattern": "h1", "name": "key", "network": "blue",
            "version_id": "2.1", "alias": "os-keypairs", "member_id": self.victim.project_id, "consumer_uuid":
            servers[0]["id"], "uuid": self._provider(), "resource_class": "VCPU", "agent_id": group["id"],
            "request_id": f"req-{group['id']}", "aggregate_id": str(aggregate["id"]),
            "server_group_id": affinity["id"],
        }  # fmt: skip

    def _provider(self) -> str:
        """A resource provider that is no host and has something to give."""
        root = self.cloud.root
        uuid = self.cloud.run(CreateProvider(caller=root, name="pool")).provider.uuid
        own = (Inventory(resource_class="VCPU", total=8),)
        self.cloud.run(SetInventories(caller=root, uuid=uuid, generation=None, inventories=own))
        return str(uuid)

    # ---------------------------------------------------------------------- requests
    def value(self, face: str, route: Route, name: str) -> str:
        """A real id for a parameter of a path."""
        if name == "resource_id":
            kind = route.path.split("/")[2]
            return self.ids[{"security-groups": "group_id"}.get(kind, f"{kind[:-1]}_id")]
        if (face, name) == ("compute", "project_id"):
            return self.member.project_id
        return self.ids[name]

    def path(self, face: str, route: Route, **replaced: str) -> str:
        def fill(match: re.Match[str]) -> str:
            return replaced[match[1]] if match[1] in replaced else self.value(face, route, match[1])

        return _PARAMETER.sub(fill, route.path)

    def version(self, face: str, route: Route) -> str | None:
        """The newest microversion at which the route is there."""
        versions = declared(face).microversions
        if versions is None:
            return None
        return show_version(min(versions.maximum, route.until) if route.until < LAST_VERSION else versions.maximum)

    def body(self, face: str, route: Route) -> Any:
        """A body that is right, as far as its declaration tells; None for a route without one."""
        if route.stream or route.body is None:
            return None
        made = self._special(face, route)
        if made is None:
            made = sample(msgspec.inspect.type_info(body_type(route)))
        return {route.action: made} if route.action is not None else made

    def _special(self, face: str, route: Route) -> Any:
        network = {"network_id": self.world.network_id}
        rule = {"security_group_id": self.ids["group_id"], "direction": "egress"}
        flavor = {"name": "new", "ram": 64, "vcpus": 1, "disk": 0}
        allocation = {
            "allocations": {self.ids["uuid"]: {"resources": {"VCPU": 1}}}, "project_id": "p", "user_id": "u",
            "consumer_generation": None, "consumer_type": "JOB",
        }  # fmt: skip
        server = {"name": "vm", "flavorRef": "1", "imageRef": IMAGE_ID, "networks": [{"uuid": self.world.network_id}]}
        made = {
            "POST /v2.0/networks": {"network": {"name": "n"}},
            "POST /v2.0/ports": {"port": network},
            "POST /v2.0/security-groups": {"security_group": {"name": "n"}},
            "POST /v2.0/security-group-rules": {"security_group_rule": rule},
            "POST /v2.0/subnets": {"subnet": {**network, "ip_version": 4, "cidr": "10.9.0.0/24"}},
            "POST /v2/images": {"name": "n", "disk_format": "raw", "container_format": "bare"},
            "PATCH /v2/images/{image_id}": [{"op": "replace", "path": "/name", "value": "other"}],
            "POST /v2/images/{image_id}/members": {"member": self.foreign.project_id},
            "POST /v2.1/flavors": {"flavor": flavor},
            "POST /v2.1/os-aggregates/{aggregate_id}/images": {"cache": [{"id": IMAGE_ID}]},
            "PUT /v2.1/os-aggregates/{aggregate_id}": {"aggregate": {"name": "other"}},
            "POST /v2.1/os-keypairs": {"keypair": {"name": "new", "public_key": SSH_KEY}},
            "POST /v2.1/servers": {"server": server},
            "PUT /v2.1/servers/{server_id}": {"server": {"name": "other"}},
            "PUT /v2.1/servers/{server_id}/metadata/{key}": {"meta": {"key": "other"}},
            "POST /v3/projects": {"project": {"name": "n"}},
            "POST /resource_classes": {"name": "CUSTOM_NEW"},
            "PUT /resource_classes/{name}": {"name": "CUSTOM_NEWER"},
            "POST /resource_providers/{uuid}/inventories": {"resource_class": "VGPU", "total": 1},
            "POST /allocations": {OTHER_ID: allocation},
            "PUT /allocations/{consumer_uuid}": allocation,
            "POST /v3/users": {"user": {"name": "n"}},
            "POST /v3/endpoints": {
                "endpoint": {"service_id": self.ids["service_id"], "interface": "public", "url": "http://u"}
            },
        }
        return made.get(f"{route.method} {route.path}")

    def send(
        self, client: Client, face: str, route: Route, *, body: bytes | None = None, path: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:  # fmt: skip
        """The request that means a route; ``body`` and ``path`` take the place of the right ones."""
        if body is None:
            made = self.body(face, route)
            body = None if made is None else jsonlib.dumps(made).encode()
        if route.stream and body is None:
            body = b"the bytes of a disk"
        sent = {"X-Subject-Token": self.victim.token} if face == "identity" else {}
        sent["Content-Type"] = route.media[0]
        version = self.version(face, route)
        if version is not None:
            sent["OpenStack-API-Version"] = f"{face} {version}"
        if client.token:
            sent["X-Auth-Token"] = client.token
        target = self.path(face, route) if path is None else path
        return self._exchange(face, route.method, target, body, sent | (headers or {}))

    def _exchange(self, face: str, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Reply:
        """One request over the connection that is kept for a face."""
        from tests.api.conftest import Reply

        connection = self._connections.get(face)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.cloud.ports[face], timeout=60)
            self._connections[face] = connection
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def last_commit(self) -> int:
        """The number of the last transaction that changed anything."""
        return int(self.cloud.store._environment.info()["last_txnid"])

    def fingerprint(self) -> str:
        """A hash of every record of every table: the same means that nothing changed."""
        digest = hashlib.sha256()
        with self.cloud.store.snapshot() as snapshot:
            for table in tables.TABLES:
                digest.update(table.name.encode())
                for record in snapshot.scan(table):
                    digest.update(msgspec.msgpack.encode(record))
        return digest.hexdigest()


def ordered(face: Face) -> list[Route]:
    """Reads first, deletions last, so that what a request names is still there."""
    rank = {"GET": 0, "HEAD": 0, "POST": 1, "PUT": 1, "PATCH": 1, "DELETE": 2}
    return sorted(face.routes, key=lambda route: (rank[route.method], -route.path.count("/")))


def changes(route: Route) -> bool:
    """Whether a role of a project is what allows a route, and it is not a read."""
    return route.method not in ("GET", "HEAD") and route.policy not in ("none", "any", "owner-user")


def sample(kind: Any) -> Any:
    """The smallest value of a msgspec type."""
    inspect = msgspec.inspect
    if isinstance(kind, inspect.StructType):
        return {field.encode_name: sample(field.type) for field in kind.fields if field.required}
    if isinstance(kind, inspect.UnionType):
        return sample(kind.types[0])
    if isinstance(kind, inspect.LiteralType):
        return kind.values[0]
    if isinstance(kind, inspect.DictType):
        return {}
    if isinstance(kind, inspect.ListType | inspect.VarTupleType):
        return []
    if isinstance(kind, inspect.StrType):
        return "x" * (kind.min_length or 1)
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return kind.ge or 1
    return True if isinstance(kind, inspect.BoolType) else None
