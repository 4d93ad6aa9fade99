"""From declarations to a running application: a Falcon application for each face, and one callable that picks the face.

The face is picked by the port the client reached, so one process serves them all. What an API lets clients put into
its paths (a project id, an older prefix) is taken out here, so that a route exists once.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

import falcon
import falcon.asgi

from nova_fast.api.framework.auth import Authenticator
from nova_fast.api.framework.endpoint import (
    BODILESS,
    Endpoint,
    common_headers,
    new_request_id,
    numbered,
    write_problem,
)
from nova_fast.api.framework.incoming import Incoming, Receive
from nova_fast.api.framework.log import log_access, log_fault
from nova_fast.api.framework.request import Runtime
from nova_fast.api.framework.route import Face, Route

Scope = dict[str, Any]
Send = Callable[[Any], Awaitable[None]]
Responder = Callable[..., Coroutine[Any, Any, None]]  # of a request, a response, and the path's parameters

#: What answers a request, and the parameters of its path.
Found = tuple[Endpoint, dict[str, str]]

_PROJECT = re.compile(r"/[0-9a-f]{32}(?=/|$)")
PROJECT_CHARACTERS = 33
_HTTP_VERSIONS = frozenset({"1.0", "1.1"})


class _Resource:
    """What Falcon's router leads to: one method for each HTTP method (``on_get``, …)."""


class FaceApp:
    """One face, ready to serve."""

    def __init__(self, runtime: Runtime, authenticator: Authenticator, face: Face) -> None:
        self._face = face
        self.name = face.name
        self.runtime = runtime
        self._app: Any = falcon.asgi.App()
        self._app.req_options.strip_url_path_trailing_slash = True
        for kind in (falcon.HTTPError, Exception):
            self._app.add_error_handler(kind, self._unrouted)
        for path, methods in _grouped(face.routes).items():
            self._app.add_route(path, self._resource(runtime, authenticator, methods), compile=False)
        self._prefixes = [prefix for prefix in (face.prefix, face.legacy_prefix) if prefix]
        self._takes_project = face.project_in_path
        self._usual = face.prefix + "/"
        self._end = len(face.prefix) + PROJECT_CHARACTERS

    def _resource(self, runtime: Runtime, authenticator: Authenticator, methods: dict[str, list[Route]]) -> _Resource:
        resource = _Resource()
        for method, routes in methods.items():
            endpoint = Endpoint(runtime, authenticator, self._face, routes)
            setattr(resource, f"on_{method.lower()}", endpoint.respond)
            if method == "GET" and self._face.head and "HEAD" not in methods:
                resource.on_head = endpoint.respond  # type: ignore[attr-defined]
        return resource

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """What serves one request; the caller awaits it (PERF: so there is one coroutine less)."""
        path: str = scope["path"]
        # PERF: most paths have the usual prefix, and at the place where a project id could end they go on
        if self._takes_project and (path[self._end : self._end + 1] in ("", "/") or not path.startswith(self._usual)):
            self._take_project(scope, path)
        served: Awaitable[None] = self._app(scope, receive, send)
        return served

    def find(self, scope: Scope) -> tuple[Responder, dict[str, str]] | None:
        """The responder of a request and the parameters of its path, for who asks without HTTP; None = no route."""
        if self._face.project_in_path:
            self._take_project(scope, scope["path"])
        path: str = scope["path"]
        found = self._app._router.find(path[:-1] if path.endswith("/") and len(path) > 1 else path)
        responder = getattr(found[0], f"on_{scope['method'].lower()}", None) if found is not None else None
        return None if responder is None else (responder, found[2])

    def find_plain(self, path: str, method: str = "GET") -> Found | None:
        """What answers a path in its usual spelling, and the path's parameters; None for another spelling.

        Routes have the newest prefix and no project in them, so what has either is not found here.
        """
        found: Any = None if path.endswith("/") else self._app._router.find(path)
        endpoint = None if found is None else getattr(found[1].get(method), "__self__", None)
        return (endpoint, found[2]) if isinstance(endpoint, Endpoint) else None

    def _take_project(self, scope: Scope, path: str) -> None:
        for prefix in self._prefixes:
            if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/"):
                rest = path[len(prefix) :]
                match = _PROJECT.match(rest) if len(rest) >= PROJECT_CHARACTERS else None
                if match is not None:
                    scope["nova_fast.project"] = match[0][1:]
                    rest = rest[match.end() :]
                elif prefix == self._face.prefix:
                    return
                if prefix == self._face.legacy_prefix and rest.strip("/"):
                    scope["nova_fast.legacy"] = True
                    prefix = self._face.prefix
                scope["path"] = prefix + rest
                return

    async def _unrouted(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, error: Exception, params: dict[str, Any]
    ) -> None:
        """What Falcon refuses before a responder runs: an unknown path, a method a path does not have."""
        request_id = new_request_id()
        status, message, headers = 500, f"An unexpected error occurred ({request_id}).", {}
        if isinstance(error, falcon.HTTPError):
            status, headers = error.status_code, dict(error.headers or {})
            message = {404: "The resource could not be found.", 405: "The method is not allowed here."}.get(
                status, error.title or "The request could not be understood."
            )
        else:
            log_fault("%s %s %s failed", request_id, req.method, req.path, error=error)
        write_problem(resp, status, self._face.errors.body(status, message, "", request_id))
        resp.set_headers(headers)
        versions = self._face.microversions
        common_headers(resp, self._face, request_id, versions.minimum if versions is not None else 0)
        log_access(self._face.name, req.scope, (status, 0.0), (request_id, ""))


class Application:
    """The root ASGI callable."""

    def __init__(self, faces: dict[int, FaceApp]) -> None:
        self._faces = faces

    def face(self, port: int) -> FaceApp:
        """The face that answers on a port."""
        return self._faces[port]

    def find_direct(self, scope: Scope) -> Found | None:
        """What answers a request that is here as a whole without ASGI: for the HTTP server.

        None where there would be something (an older prefix, a project in the path, HEAD) costs time and nothing else.
        """
        face = self._faces.get(scope["server"][1])
        if face is None or scope["method"] == "HEAD":
            return None
        found = face.find_plain(scope["path"], scope["method"])
        return found if found is not None and found[0].direct else None

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            assert scope["type"] == "lifespan", "only HTTP is served here"
            await _lifespan(receive, send)
            return
        face = self._faces.get(scope["server"][1])
        if face is None or scope["http_version"] not in _HTTP_VERSIONS:
            status = 404 if face is None else 505
            await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        if scope["method"] in BODILESS:
            await face(scope, receive, send)
            return
        incoming = scope["nova_fast.incoming"] = Incoming(receive)
        try:
            await face(scope, incoming, send)
        finally:
            incoming.forget()


def build(runtime: Runtime, faces: Iterable[tuple[int, Face]]) -> Application:
    """Make the application from faces and the ports they answer on."""
    authenticator = Authenticator()
    return Application({port: FaceApp(runtime, authenticator, face) for port, face in faces})


async def _lifespan(receive: Any, send: Send) -> None:
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return


def _grouped(routes: Iterable[Route]) -> dict[str, dict[str, list[Route]]]:
    """path → method → routes. Paths that differ only in the names of their parameters are one path."""
    found: dict[str, dict[str, list[Route]]] = {}
    for route in routes:
        found.setdefault(numbered(route.path), {}).setdefault(route.method, []).append(route)
    return found
