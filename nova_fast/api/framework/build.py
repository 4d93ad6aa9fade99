"""From declarations to a running application: a Falcon application for each face, and one callable that picks the face.

The face is picked by the port the client reached, so one process serves them all. What an API lets clients put into
its paths (a project id, an older prefix) is taken out here, so that a route exists once.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import falcon
import falcon.asgi

from nova_fast.api.framework.auth import Authenticator
from nova_fast.api.framework.endpoint import Endpoint, common_headers, new_request_id, write_problem
from nova_fast.api.framework.incoming import Incoming
from nova_fast.api.framework.log import faults, log_access
from nova_fast.api.framework.request import Runtime
from nova_fast.api.framework.route import Face, Route

Scope = dict[str, Any]
Send = Callable[[Any], Awaitable[None]]

_PROJECT = re.compile(r"/[0-9a-f]{32}(?=/|$)")
_PARAMETER = re.compile(r"{(\w+)}")


class _Resource:
    """What Falcon's router leads to: one method for each HTTP method (``on_get``, …)."""


class FaceApp:
    """One face, ready to serve."""

    def __init__(self, runtime: Runtime, authenticator: Authenticator, face: Face) -> None:
        self._face = face
        self._app: Any = falcon.asgi.App()
        self._app.req_options.strip_url_path_trailing_slash = True
        for kind in (falcon.HTTPError, Exception):
            self._app.add_error_handler(kind, self._unrouted)
        for path, methods in _grouped(face.routes).items():
            self._app.add_route(_same_names(path), self._resource(runtime, authenticator, methods), compile=False)
        self._prefixes = [prefix for prefix in (face.prefix, face.legacy_prefix) if prefix]

    def _resource(self, runtime: Runtime, authenticator: Authenticator, methods: dict[str, list[Route]]) -> _Resource:
        resource = _Resource()
        for method, routes in methods.items():
            endpoint = Endpoint(runtime, authenticator, self._face, routes)
            responder = _renamed(endpoint, routes[0].path)
            setattr(resource, f"on_{method.lower()}", responder)
            if method == "GET" and self._face.head and "HEAD" not in methods:
                resource.on_head = responder  # type: ignore[attr-defined]
        return resource

    async def __call__(self, scope: Scope, receive: Incoming, send: Send) -> None:
        path: str = scope["path"]
        scope["nova_fast.path"] = path
        if self._face.project_in_path:
            self._take_project(scope, path)
        await self._app(scope, receive, send)

    def _take_project(self, scope: Scope, path: str) -> None:
        for prefix in self._prefixes:
            if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/"):
                rest = path[len(prefix) :]
                match = _PROJECT.match(rest)
                if match is not None:
                    scope["nova_fast.project"] = match[0][1:]
                    rest = rest[match.end() :]
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
            faults.error("%s %s %s failed", request_id, req.method, req.path, exc_info=error)
        write_problem(resp, status, self._face.errors.body(status, message, "", request_id))
        resp.set_headers(headers)
        versions = self._face.microversions
        common_headers(resp, self._face, request_id, versions.minimum if versions is not None else None)
        log_access(self._face.name, req.scope, status, 0.0, (request_id, "", "", ""))


class Application:
    """The root ASGI callable."""

    def __init__(self, faces: dict[int, FaceApp]) -> None:
        self._faces = faces

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        assert scope["type"] == "http", "only HTTP is served here"
        incoming = Incoming(receive)
        scope["nova_fast.incoming"] = incoming
        face = self._faces.get(scope["server"][1])
        if face is None:
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        await face(scope, incoming, send)


def build(runtime: Runtime, faces: Iterable[tuple[int, Face]]) -> Application:
    """Make the application from faces and the ports they answer on."""
    authenticator = Authenticator(runtime)
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
        found.setdefault(_same_names(route.path), {}).setdefault(route.method, []).append(route)
    return found


def _same_names(path: str) -> str:
    """The path with its parameters named p0, p1, …: Falcon wants one name for one place."""
    count = iter(range(100))
    return _PARAMETER.sub(lambda _: f"{{p{next(count)}}}", path)


def _renamed(endpoint: Endpoint, path: str) -> Callable[..., Awaitable[None]]:
    """A responder that gives each parameter its declared name."""
    names = _PARAMETER.findall(path)
    if not names:
        return endpoint.respond
    pairs = [(f"p{number}", name) for number, name in enumerate(names)]

    async def responder(req: falcon.asgi.Request, resp: falcon.asgi.Response, **params: str) -> None:
        await endpoint.respond(req, resp, **{name: params[place] for place, name in pairs})

    return responder
