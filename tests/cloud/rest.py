"""A client of the REST API for tests that send more than the command line could: hundreds of requests at once."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .conftest import Cloud

TIMEOUT_S = 60


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Rest:
    """Somebody with a token; safe to use from several threads."""

    def __init__(self, cloud: Cloud, user: str = "admin", password: str = "", project: str = "admin") -> None:
        self.cloud = cloud
        self.token = ""
        domain = {"id": "default"}
        password = password or (cloud.state / "admin-password").read_text().strip()
        identity = {
            "methods": ["password"],
            "password": {"user": {"name": user, "domain": domain, "password": password}},
        }
        scope = {"project": {"name": project, "domain": domain}}
        answer = self.send("POST", "identity", "/v3/auth/tokens", {"auth": {"identity": identity, "scope": scope}})
        assert answer.status == 201, answer.body
        self.token = answer.headers["x-subject-token"]
        self.project_id = str(answer.json["token"]["project"]["id"])
        self.user_id = str(answer.json["token"]["user"]["id"])

    def send(
        self,
        method: str,
        face: str,
        path: str,
        body: Any = None,
        *,
        data: bytes | None = None,
        version: str = "2.96",
        key: str = "",
    ) -> Answer:
        """One request over a connection of its own. Raises OSError and HTTPException as they come."""
        headers = {"X-Auth-Token": self.token} if self.token else {}
        if key:
            headers["Idempotency-Key"] = key
        if face == "compute":
            headers["OpenStack-API-Version"] = f"compute {version}"
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        elif data is not None:
            headers["Content-Type"] = "application/octet-stream"
        connection = http.client.HTTPConnection("127.0.0.1", self.cloud.ports[face], timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body=data, headers=headers)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    def make(self, face: str, path: str, body: Any) -> Any:
        """Create something; the one object of the answer."""
        answer = self.send("POST", face, path, body)
        assert answer.status in (200, 201, 202), answer.body
        made = answer.json
        return next(iter(made.values())) if len(made) == 1 else made

    def image(self, name: str = "small") -> str:
        """A raw image with bytes; its id."""
        image = self.make("image", "/v2/images", {"name": name, "disk_format": "raw", "container_format": "bare"})
        answer = self.send("PUT", "image", f"/v2/images/{image['id']}/file", data=bytes(65536))
        assert answer.status == 204, answer.body
        return str(image["id"])

    def network(self, cidr: str = "10.0.0.0/20") -> str:
        """A network with a subnet; its id."""
        network_id = str(self.make("network", "/v2.0/networks", {"network": {"name": "net"}})["id"])
        subnet = {"network_id": network_id, "ip_version": 4, "cidr": cidr}
        self.make("network", "/v2.0/subnets", {"subnet": subnet})
        return network_id

    def servers(self) -> list[dict[str, Any]]:
        """Every server of the project, in detail; page by page, because a page has a bound."""
        found: list[dict[str, Any]] = []
        while True:
            marker = f"?marker={found[-1]['id']}" if found else ""
            answer = self.send("GET", "compute", f"/v2.1/servers/detail{marker}")
            assert answer.status == 200, answer.body
            found += answer.json["servers"]
            if "servers_links" not in answer.json:
                return found
