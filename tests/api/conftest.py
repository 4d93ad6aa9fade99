"""A cloud to send requests to: the whole application behind the real HTTP server, over a real store.

Every face listens on a loopback port of its own. Commands run in this process, each in one durable transaction, as the
conductor would run them; nothing else is replaced. ``cloud.admin`` and ``cloud.project("p1").member`` are clients that
have a token.

Test files get ``Cloud`` and the other types under ``TYPE_CHECKING`` only, for annotations; what they need at run time
hangs on the fixture (``cloud.password``).
"""

from __future__ import annotations

import asyncio
import http.client
import json as jsonlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvicorn

from nova_fast.api.app import FACES, build_app
from nova_fast.api.framework.request import Services
from nova_fast.api.http_protocol import BoundedProtocol
from nova_fast.commands import registry
from nova_fast.config import ApiConfig, Config
from nova_fast.hub.contracts import ENCODER, HUB_DECODER, PEER_DECODER
from nova_fast.identity.passwords import hash_password
from nova_fast.identity.tokens import TokenFacts, new_audit_id, seal
from nova_fast.model.base import Message
from nova_fast.model.commands.identity import Bootstrap, CatalogEntry, ChangeAssignment, CreateProject, CreateUser
from nova_fast.model.identity import Caller
from nova_fast.queries.check.events import events
from nova_fast.queries.check.recount import storage
from nova_fast.queries.check.references import references
from nova_fast.queries.check.usages import usages
from nova_fast.state import schema as tables
from nova_fast.state.store import Store
from tests.api.sdk_world import OpenDoor
from tests.api.server_world import World

#: What must agree after every test. No engine runs here, so workflows wait for nobody; and some tests make servers of
#: their own that are counted nowhere.
CHECKED = (storage, references, usages, events)
PASSWORD = "correct horse battery staple"
TOKEN_KEY = bytes(range(32))
_PASSWORD_HASH = hash_password(PASSWORD)
_PATHS = {"identity": "/v3", "compute": "/v2.1", "image": "", "network": "", "placement": ""}

registry.load_all()


def now_us() -> int:
    return time.time_ns() // 1000


class DirectCommander:
    """Runs commands at once, one durable transaction each; ``commands`` remembers what was asked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.commands: list[Message] = []

    async def run(self, command: Message, request_id: str) -> Message:
        """Do a command as the conductor does: request and answer go through the wire's encoding."""
        self.commands.append(command)
        arrived = HUB_DECODER.decode(ENCODER.encode(command))
        assert arrived == command
        return PEER_DECODER.decode(ENCODER.encode(self.run_now(arrived)))

    def run_now(self, command: Message) -> Any:
        with self._store.transaction(now_us()) as tx:
            return registry.run(tx, command)


@dataclass
class Reply:
    """An HTTP answer, whole."""

    status: int
    headers: dict[str, str]  # lower-case names
    body: bytes

    @property
    def json(self) -> Any:
        return jsonlib.loads(self.body)


@dataclass
class Client:
    """Somebody who speaks HTTP to the cloud, with or without a token."""

    cloud: Cloud = field(repr=False)
    token: str = field(default="", repr=False)
    user_id: str = ""
    project_id: str = ""

    def request(
        self,
        method: str,
        face: str,
        path: str,
        *,
        json: Any = None,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        microversion: str | None = None,
    ) -> Reply:
        """Send one request; ``path`` is the whole path of the face, e.g. /v2.1/servers."""
        sent = {"Host": f"127.0.0.1:{self.cloud.ports[face]}"}
        if self.token:
            sent["X-Auth-Token"] = self.token
        if microversion is not None:
            sent["OpenStack-API-Version"] = f"{face} {microversion}"
        if json is not None:
            body = jsonlib.dumps(json).encode()
            sent["Content-Type"] = "application/json"
        sent |= headers or {}
        connection = http.client.HTTPConnection("127.0.0.1", self.cloud.ports[face], timeout=60)
        try:
            connection.request(method, path, body=body, headers=sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())
        finally:
            connection.close()

    def get(self, face: str, path: str, **kwargs: Any) -> Reply:
        return self.request("GET", face, path, **kwargs)

    def head(self, face: str, path: str, **kwargs: Any) -> Reply:
        return self.request("HEAD", face, path, **kwargs)

    def post(self, face: str, path: str, **kwargs: Any) -> Reply:
        return self.request("POST", face, path, **kwargs)

    def put(self, face: str, path: str, **kwargs: Any) -> Reply:
        return self.request("PUT", face, path, **kwargs)

    def patch(self, face: str, path: str, **kwargs: Any) -> Reply:
        return self.request("PATCH", face, path, **kwargs)

    def delete(self, face: str, path: str, **kwargs: Any) -> Reply:
        return self.request("DELETE", face, path, **kwargs)


@dataclass
class ProjectClients:
    """A project and one client for each role in it."""

    id: str
    name: str
    manager: Client
    member: Client
    reader: Client


@dataclass
class Cloud:
    """The running cloud of one test."""

    config: Config
    store: Store
    commander: DirectCommander
    ports: dict[str, int]
    admin_user_id: str = ""
    admin_project_id: str = ""
    password: str = PASSWORD  # of every user made here
    made_up_usage: bool = False  # a test counts what nobody has
    _projects: dict[str, ProjectClients] = field(default_factory=dict)

    @property
    def nobody(self) -> Client:
        """A client without a token."""
        return Client(self)

    @property
    def admin(self) -> Client:
        return self.client_for(self.admin_user_id, self.admin_project_id)

    @property
    def root(self) -> Caller:
        """An admin, for commands that a test runs itself with :meth:`run`."""
        return Caller(user_id=self.admin_user_id, project_id=self.admin_project_id, roles=("admin", "member", "reader"))

    def run(self, command: Message) -> Any:
        """Run a command directly. Raises NovaFastError."""
        return self.commander.run_now(command)

    def client_for(self, user_id: str, project_id: str = "", lifetime_s: float = 3600) -> Client:
        """A client with a fresh token for a project (or, without one, an unscoped token)."""
        facts = TokenFacts(
            user_id=user_id,
            methods=("password",),
            scope_type="project" if project_id else "",
            scope_id=project_id,
            issued_at_us=now_us(),
            expires_at_us=now_us() + int(lifetime_s * 1_000_000),
            audit_id=new_audit_id(),
        )
        return Client(self, seal(TOKEN_KEY, facts), user_id, project_id)

    def project(self, name: str) -> ProjectClients:
        """The project of this name with users ``<name>-manager``, ``-member``, ``-reader``; made when first asked."""
        found = self._projects.get(name)
        if found is None:
            project = self.run(CreateProject(caller=self.root, name=name, domain_id="default")).project
            clients = {role: self.user(f"{name}-{role}", project.id, role) for role in ("manager", "member", "reader")}
            found = self._projects[name] = ProjectClients(project.id, name, **clients)
        return found

    def user(self, name: str, project_id: str, *roles: str) -> Client:
        """A new user (password PASSWORD) with these roles on a project."""
        user = self.run(CreateUser(caller=self.root, name=name, domain_id="default", password_hash=_PASSWORD_HASH)).user
        for role in roles:
            assignment = ChangeAssignment(
                caller=self.root, user_id=user.id, role_id=self.role_id(role),
                scope_type="project", scope_id=project_id, present=True,
            )  # fmt: skip
            self.run(assignment)
        return self.client_for(user.id, project_id)

    def role_id(self, name: str) -> str:
        with self.store.snapshot() as snapshot:
            role = snapshot.find(tables.ROLES_BY_NAME, "", name)
        assert role is not None
        return role.id


def _catalog(ports: dict[str, int]) -> tuple[CatalogEntry, ...]:
    names = {"identity": "keystone", "compute": "nova", "image": "glance", "network": "neutron"}
    urls = {face: f"http://127.0.0.1:{port}{_PATHS[face]}" for face, port in ports.items()}
    return tuple(
        CatalogEntry(type=face, name=names.get(face, face), public_url=url, internal_url=url, admin_url=url)
        for face, url in urls.items()
    )


class _Server:
    """The HTTP server in a thread of its own."""

    def __init__(self, app: Any, sockets: list[socket.socket]) -> None:
        config = uvicorn.Config(
            app, loop="uvloop", http=BoundedProtocol, ws="none", log_config=None, access_log=False, lifespan="off",
            server_header=False, proxy_headers=False,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, args=(sockets,), daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 60
        while not self._server.started:
            assert time.monotonic() < deadline, "the server did not start"
            assert self._thread.is_alive(), "the server died at start"
            time.sleep(0.005)

    def _run(self, sockets: list[socket.socket]) -> None:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._server.serve(sockets))

    def stop(self) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(60)
        assert not self._thread.is_alive(), "the server did not stop"


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """What faces find by type beside the store; override it in a test file that needs more."""
    return Services()


@pytest.fixture
def faces() -> tuple[str, ...]:
    """The faces to serve; override it in a test file that needs fewer."""
    return FACES


@pytest.fixture
def api_config() -> ApiConfig:
    """Limits of the API; override it in a test file that wants others (ports are set by ``cloud``)."""
    return ApiConfig()


@pytest.fixture
def cloud(tmp_path: Path, services: Services, api_config: ApiConfig, faces: tuple[str, ...]) -> Iterator[Cloud]:
    """A cloud that was just set up: Default domain, admin, roles, catalog, classical flavors."""
    with ExitStack() as stack:
        sockets: dict[str, socket.socket] = {}
        for face in FACES:
            sockets[face] = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            sockets[face].bind(("127.0.0.1", 0))
            sockets[face].listen(64)
        ports = {face: listener.getsockname()[1] for face, listener in sockets.items()}
        api = msgspec.structs.replace(api_config, **{f"{face}_port": port for face, port in ports.items()})
        config = Config(state_dir=str(tmp_path / "state"), api=api)
        store = Store.open(tmp_path / "state" / "store")
        stack.callback(store.close)
        commander = DirectCommander(store)
        made = commander.run_now(
            Bootstrap(
                admin_password_hash=_PASSWORD_HASH, token_key=TOKEN_KEY, region="RegionOne", catalog=_catalog(ports)
            )
        )
        server = _Server(build_app(config, store, commander, services, faces), list(sockets.values()))
        stack.callback(server.stop)
        cloud = Cloud(config, store, commander, ports, made.admin_user_id, made.admin_project_id)
        yield cloud
        with store.snapshot() as snapshot:
            for subject in CHECKED:
                if subject is not usages or not cloud.made_up_usage:
                    assert [found.sentence for found in subject(snapshot)] == []


@pytest.fixture
def world(cloud: Cloud) -> World:
    """The cloud, furnished for servers; override it in a test file that wants other furniture."""
    return World(cloud)


@pytest.fixture
def door(cloud: Cloud) -> Iterator[OpenDoor]:
    """A worker's door for the SDK."""
    opened = OpenDoor(cloud)
    yield opened
    opened.close()


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault("NO_PROXY", "127.0.0.1")
