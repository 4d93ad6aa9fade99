"""How a face declares its routes: method, path, microversions, policy, status codes, shapes; once, beside the handler.

Everything else is made from these declarations: the Falcon routers, the checks of every request, the OpenAPI document,
the coverage tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from nova_fast.api.framework.errors import ErrorStyle
from nova_fast.api.framework.policy import POLICIES
from nova_fast.api.framework.versions import Microversions, parse_version

JSON = "application/json"
#: A msgspec type, or a type by the microversion from which it counts.
Shape = Any
#: A coroutine function of the request and the path's parameters. Or a plain function, for what waits for nothing: it is
#: given, behind the request, the snapshot in which the token was checked (PERF: one for both, and no coroutine).
Handler = Callable[..., Awaitable[Any]] | Callable[..., Any]

_IDENTITY_HEADERS = {"vary": "X-Auth-Token"}
_NO_HEADERS: dict[str, str] = {}

#: Bounds of a route that is there at every version.
FIRST_VERSION = 0
LAST_VERSION = 1 << 31


@dataclass(slots=True, kw_only=True)
class Answer:
    """What a handler gives back when the body alone does not say it all.

    ``body`` is JSON (dict, list, Struct), bytes sent as they are, or None (empty); ``stream`` yields bytes for
    downloads and wants a ``content-length`` header.
    """

    body: Any = None
    status: int | None = None  # None = the route's
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = JSON
    stream: AsyncIterator[bytes] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One declaration."""

    method: str
    path: str  # the whole path without project, e.g. /v2.1/servers/{server_id}
    handler: Handler
    ok: int | dict[str, int]
    errors: tuple[int, ...]
    policy: str
    body: Shape
    query: Shape
    answer: Shape
    since: int
    until: int
    action: str | None
    stream: bool
    gives_stream: bool
    media: tuple[str, ...]

    def overlaps(self, other: Route) -> bool:
        """Whether one request could mean both."""
        same = (self.method, self.path, self.action) == (other.method, other.path, other.action)
        return same and self.since <= other.until and other.since <= self.until


class Face:
    """One API: its routes and its manners.

    ``prefix`` stands before every route path that is not declared with ``root=True``; ``legacy_prefix`` is a second
    spelling of it without microversions; ``project_in_path`` lets a 32-digit project id follow the prefix; ``head``
    answers HEAD wherever GET is declared.
    """

    def __init__(
        self,
        name: str,
        *,
        errors: ErrorStyle,
        prefix: str = "",
        legacy_prefix: str | None = None,
        microversions: Microversions | None = None,
        project_in_path: bool = False,
        head: bool = False,
    ) -> None:
        self.name = name
        self.errors = errors
        self.prefix = prefix
        self.legacy_prefix = legacy_prefix
        self.microversions = microversions
        self.project_in_path = project_in_path
        self.head = head
        self.routes: list[Route] = []
        self.said: dict[int, dict[str, str]] = {}  # version → headers of answers, made once
        self.said_lines: dict[int, bytes] = {}  # the same as they are written

    def route(
        self,
        method: str,
        path: str,
        *,
        ok: int | dict[str, int] = 200,
        errors: tuple[int, ...] = (),
        policy: str = "any",
        body: Shape = None,
        query: Shape = None,
        answer: Shape = None,
        since: str | None = None,
        until: str | None = None,
        action: str | None = None,
        stream: bool = False,
        gives_stream: bool = False,
        root: bool = False,
        media: tuple[str, ...] = (JSON,),
    ) -> Callable[[Handler], Handler]:
        """Declare the decorated function as the handler of a route. See the module's documentation.

        ``body``, ``query``, ``answer`` and ``ok`` may be dicts by microversion; ``media`` lists the content types
        a body may have. With ``stream`` the handler reads the body; with ``gives_stream`` an answer may have a stream.
        """
        assert policy in POLICIES, f"unknown policy {policy!r} of {method} {path}"
        assert not (stream and body is not None), f"{method} {path}: a stream has no decoded body"

        def declare(handler: Handler) -> Handler:
            whole_path = path if root else self.prefix + path
            route = Route(
                method=method,
                path=whole_path.rstrip("/") or "/",
                handler=handler,
                ok=ok,
                errors=errors,
                policy=policy,
                body=body,
                query=query,
                answer=answer,
                since=parse_version(since) if since else FIRST_VERSION,
                until=parse_version(until) if until else LAST_VERSION,
                action=action,
                stream=stream,
                gives_stream=gives_stream,
                media=media,
            )
            self._add(route)
            return handler

        return declare

    def _add(self, route: Route) -> None:
        clash = next((other for other in self.routes if route.overlaps(other)), None)
        assert clash is None, f"{route.method} {route.path} ({route.action}) is declared twice"
        self.routes.append(route)

    def version_headers(self, version: int | None) -> dict[str, str]:
        """What every answer says about microversions and caches; ``None`` = no version could be parsed."""
        if self.microversions is not None:
            return self.microversions.answer_headers(version)
        return _IDENTITY_HEADERS if self.name == "identity" else _NO_HEADERS

    def problem(self, status: int, message: str) -> Answer:
        """An error answer in the manner of this face, for the few statuses that no NovaFastError stands for (410)."""
        return Answer(status=status, body=self.errors.body(status, message, "", ""))


class ByVersion:
    """A fact that depends on the microversion: the newest entry not above the request's counts."""

    __slots__ = ("_entries", "constant")

    def __init__(self, fact: Any) -> None:
        self._entries: list[tuple[int, Any]] = []
        self.constant = fact
        if isinstance(fact, dict):
            self._entries = sorted(((parse_version(key), value) for key, value in fact.items()), key=lambda e: -e[0])
            assert self._entries, "a fact by version needs at least one entry"
            self.constant = None

    def at(self, version: int) -> Any:
        """The entry for a version; below the oldest entry the oldest counts."""
        if not self._entries:
            return self.constant
        for since, value in self._entries:
            if since <= version:
                return value
        return self._entries[-1][1]

    def all(self) -> list[Any]:
        """Every entry, newest first."""
        return [value for _, value in self._entries] if self._entries else [self.constant]


def is_struct(shape: Any) -> bool:
    """Whether a shape is a msgspec Struct type."""
    return isinstance(shape, type) and issubclass(shape, msgspec.Struct)
