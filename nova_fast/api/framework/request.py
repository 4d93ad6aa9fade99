"""What a handler is given: the decoded request, who asks, and the two ways to the cloud's state."""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from nova_fast.api.framework.query import pairs
from nova_fast.api.framework.versions import parse_version
from nova_fast.config import Config
from nova_fast.model.base import Message
from nova_fast.model.identity import Caller
from nova_fast.queries.reading import Reader, Snapshots

if TYPE_CHECKING:
    from nova_fast.api.framework.auth import Verified
    from nova_fast.api.framework.once import Once

T = TypeVar("T")
#: Before a request's microversion has been understood.
NO_VERSION = -1
#: A longer one is no host: 253 characters and a port.
HOST_BYTES_MAX = 260
#: Of each kind; a fact is a name or a record of a host.
FACTS_MAX = 2000
_HOST = re.compile(rb"[A-Za-z0-9._\-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")


@functools.lru_cache(maxsize=256)
def _shown_host(header: bytes) -> str:
    """The Host header, if it can stand in a link; else nothing."""
    return header.decode() if _HOST.fullmatch(header) else ""


class Commander(Protocol):
    """Who does commands: in production the conductor behind the hub."""

    def run(self, command: Message, request_id: str) -> Awaitable[Message]:
        """Do a command durably and return its result. Raises NovaFastError; has a deadline of its own."""
        ...


class Services:
    """Other things a face may need (the image store, the hub peer), found by their type."""

    def __init__(self, *objects: object) -> None:
        self._objects = objects

    def get(self, kind: type[T]) -> T:
        """The one object of a type. Raises LookupError when the application was built without it."""
        for candidate in self._objects:
            if isinstance(candidate, kind):
                return candidate
        raise LookupError(f"the application was built without a {kind.__name__}")


class Runtime:
    """What lives as long as the worker."""

    __slots__ = ("_commit", "_facts", "_kept", "commander", "config", "identity_url", "services", "store")

    def __init__(self, config: Config, store: Snapshots, commander: Commander, services: Services) -> None:
        self.config = config
        self.store = store
        self.commander = commander
        self.services = services
        self.identity_url = f"http://{config.public_host}:{config.api.identity_port}/v3"
        self._commit = -1
        self._facts: dict[str, dict[str, Any]] = {}
        self._kept: dict[type, Any] = {}

    def kept(self, kind: type[T]) -> T:
        """The worker's one object of a class, made when it is first asked for: what outlives requests and commits."""
        found: T | None = self._kept.get(kind)
        if found is None:
            found = self._kept[kind] = kind()
        return found

    def facts(self, snapshot: Reader) -> dict[str, dict[str, Any]]:
        """What was read of the commit that a snapshot shows, by kind and id, to be read once; any commit empties it.

        For the few things that many answers share (names of networks, hosts), never for what the answers are about.
        """
        commit = snapshot.commit()
        if commit != self._commit:
            self._commit, self._facts = commit, {}
        return self._facts


class Request:
    """One request of a face. ``token`` and ``caller`` are there unless the policy is ``none``."""

    __slots__ = (
        "_runtime",
        "body",
        "caller",
        "global_request_id",
        "headers",
        "media",
        "method",
        "once",
        "query",
        "request_id",
        "scope",
        "stream",
        "token",
        "version",
    )

    caller: Caller
    token: Verified
    stream: AsyncIterator[bytes]

    def __init__(self, runtime: Runtime, scope: dict[str, Any], headers: dict[bytes, bytes], request_id: str) -> None:
        self._runtime = runtime
        self.scope = scope
        self.headers = headers
        self.request_id = request_id
        self.method: str = scope["method"]
        self.global_request_id = ""
        self.version = NO_VERSION
        self.media = ""
        self.body: Any = None
        self.query: Any = None
        self.once: Once | None = None  # there when the request has an Idempotency-Key

    def at_least(self, version: str) -> bool:
        """Whether the request's microversion is this one or newer."""
        return self.version >= parse_version(version)

    def header(self, name: str) -> str | None:
        """A request header."""
        value = self.headers.get(name.lower().encode())
        return None if value is None else value.decode("latin-1")

    @property
    def config(self) -> Config:
        return self._runtime.config

    @property
    def services(self) -> Services:
        return self._runtime.services

    @property
    def identity_url(self) -> str:
        return self._runtime.identity_url

    @property
    def path(self) -> str:
        """The path as the client sent it, still percent-encoded, project id included, without the query: for links.

        SAFETY: decoded it could carry line ends into a header.
        """
        found: bytes = self.scope["raw_path"]
        return found.decode("latin-1")

    @property
    def base_url(self) -> str:
        """``scheme://host:port`` as the client used it."""
        host = _shown_host(self._host)
        scheme = self.scope.get("scheme", "http")
        if host:
            return f"{scheme}://{host}"
        address, port = self.scope["server"]
        return f"{scheme}://{address}:{port}"

    @property
    def link_facts(self) -> tuple[Any, ...]:
        """All that ``base_url`` and ``project_prefix`` are made of. PERF: a third of the time of these."""
        scope = self.scope
        return self._host, scope.get("nova_fast.project"), scope.get("scheme"), scope["server"]

    @property
    def _host(self) -> bytes:
        header = self.headers.get(b"host", b"")
        return header if len(header) <= HOST_BYTES_MAX else b""

    @property
    def project_prefix(self) -> str:
        """``/<project id>`` when the client put it into the path, else nothing: for links of the same form."""
        project: str = self.scope.get("nova_fast.project", "")
        return f"/{project}" if project else ""

    def query_pairs(self) -> list[tuple[str, str]]:
        """The raw query parameters in order."""
        return pairs(self.scope["query_string"])

    @property
    def store(self) -> Snapshots:
        """Where snapshots come from, for work that takes several."""
        return self._runtime.store

    def snapshot(self) -> AbstractContextManager[Reader]:
        """One consistent state to read from, as a context manager; never hold it across an await."""
        return self._runtime.store.snapshot()

    def kept(self, kind: type[T]) -> T:
        """The worker's one object of a class; see :meth:`Runtime.kept`."""
        return self._runtime.kept(kind)

    def facts(self, snapshot: Reader, kind: str) -> dict[str, Any]:
        """What other requests have read of the same commit, by id; see :meth:`Runtime.facts`."""
        found = self._runtime.facts(snapshot).setdefault(kind, {})
        if len(found) > FACTS_MAX:
            found.clear()
        return found

    def command(self, command: Message) -> Awaitable[Any]:
        """Have the conductor change something durably; returns the command's result. Raises NovaFastError."""
        if self.once is not None:
            return self.once.run(self._runtime.commander, command)
        return self._runtime.commander.run(command, self.request_id)

    def remembered(self) -> str | None:
        """The secret shown in the answer that this request repeats; None when a new one must be made."""
        return None if self.once is None else self.once.remembered()

    def remember(self, secret: str) -> None:
        """A secret that was made for this answer, for its repetition; to be called before the command."""
        if self.once is not None:
            self.once.remember(secret)
