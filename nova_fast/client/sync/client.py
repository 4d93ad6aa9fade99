"""The cloud as a program sees it: its nouns, what happens in it, and every other operation of the REST API."""

from __future__ import annotations

from typing import Any

import msgspec

from nova_fast.client.answers import check
from nova_fast.client.bridge import Core
from nova_fast.client.requests import new_key
from nova_fast.client.settings import Settings, read_file
from nova_fast.client.shapes import Reply
from nova_fast.client.sync.flavors import Flavors
from nova_fast.client.sync.hosts import Hosts
from nova_fast.client.sync.images import Images
from nova_fast.client.sync.networks import Networks
from nova_fast.client.sync.servers import Servers
from nova_fast.client.sync.watch import Watch
from nova_fast.model.sdk import Ask


class Client:
    """A link to a cloud.

    >>> from nova_fast.client import Client
    >>> with Client.connect() as cloud:
    ...     flavors = [flavor.name for flavor in cloud.flavors.list()]
    >>> flavors[0]
    'm1.tiny'

    Calls that are made together travel together, so what can be asked at once should be. All methods raise
    :class:`~nova_fast.model.errors.NovaFastError`: with ``status`` and sentence as REST has them for what the cloud
    refuses, Unavailable when it does not answer in time.
    """

    def __init__(self, core: Core) -> None:
        """From an open core; :meth:`connect` makes one."""
        self._core = core
        self.servers = Servers(core)
        self.flavors = Flavors(core)
        self.images = Images(core)
        self.networks = Networks(core)
        self.hosts = Hosts(core)

    @classmethod
    def connect(cls, settings: Settings | None = None) -> Client:
        """Connect and log in; without settings as the file of ``nova-fast up`` says (see ``settings.read_file``).

        Raises ConfigError, Unauthorized, and Unavailable when no API worker answers.
        """
        core = Core(settings if settings is not None else read_file())
        core.open()
        return cls(core)

    def close(self) -> None:
        """Hang up. What was asked and has no answer yet may be done or not."""
        self._core.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def watch(self, since: int | None = None) -> Watch:
        """What happens from now on, or what happened after the place another watch had come to (its ``position``).

        Servers of the caller's project; for an admin of all projects, and hosts.
        """
        return Watch(self._core, since)

    def request(self, method: str, face: str, target: str, json: Any = None) -> Reply:
        """Any operation of the REST API: ``request("GET", "compute", "/v2.1/limits")``. Raises NovaFastError."""
        body = b"" if json is None else msgspec.json.encode(json)
        key = new_key() if method == "POST" and target != "/v3/auth/tokens" else ""
        answer = check(self._core.ask(Ask(face, method, target, body, key), alone=True))
        return Reply(status=answer.status, headers=answer.headers, body=answer.body)
