"""The steps of one request, in order, compiled for one path and method.

Who asks (401), which microversion (400, 406), whose project (400), which route (404), may he (403), what he sent (413,
415, 400), the handler, the answer. One object does it all: measured, each Falcon middleware layer would cost 3 µs more.
"""

from __future__ import annotations

import inspect
import os
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import falcon.asgi
import msgspec

from nova_fast.api.framework import body as bodies
from nova_fast.api.framework.auth import Authenticator, Verified
from nova_fast.api.framework.direct import Asked, Reply, lines
from nova_fast.api.framework.errors import keystone_body, sentence
from nova_fast.api.framework.incoming import Incoming
from nova_fast.api.framework.log import log_access, log_fault
from nova_fast.api.framework.once import HEADER, answer_once
from nova_fast.api.framework.policy import POLICIES
from nova_fast.api.framework.query import QueryReader
from nova_fast.api.framework.request import NO_VERSION, Request, Runtime
from nova_fast.api.framework.route import FIRST_VERSION, JSON, Answer, ByVersion, Face, Route
from nova_fast.model.errors import BadRequest, Forbidden, NotFound, NovaFastError
from nova_fast.model.identity import Caller
from nova_fast.queries.reading import Reader

#: Methods whose requests have no body here.
BODILESS = frozenset({"GET", "HEAD"})
_encode = msgspec.json.Encoder().encode
_REQUEST_ID = re.compile(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PARAMETER = re.compile(r"{(\w+)}")
_TOKEN = b"x-auth-token"
_NO_SCOPE: dict[str, Any] = {"method": "GET"}
#: Falcon's, or what stands for it without Falcon.
Response = falcon.asgi.Response | Reply
Requested = falcon.asgi.Request | Asked
Scope = dict[str, Any]


class _Ids:
    """Random request ids, made many at once. PERF: one system call for 64; each would cost 0.5 to 1 µs."""

    __slots__ = ("_ids",)

    def __init__(self) -> None:
        self.forget()
        os.register_at_fork(after_in_child=self.forget)  # SAFETY: two processes must not give the same ids

    def forget(self) -> None:
        """Make new ones before the next is given."""
        self._ids: list[str] = []

    def take(self) -> str:
        """``req-`` and a random UUID, which nobody else gets."""
        if not self._ids:
            digits = os.urandom(16 * 64).hex()
            parts = (digits[at : at + 32] for at in range(0, 32 * 64, 32))
            self._ids = [f"req-{d[:8]}-{d[8:12]}-4{d[13:16]}-a{d[17:20]}-{d[20:]}" for d in parts]
        return self._ids.pop()


new_request_id = _Ids().take


def numbered(path: str) -> str:
    """A path with its parameters named p0, p1, …: Falcon wants one name for one place."""
    count = iter(range(100))
    return _PARAMETER.sub(lambda _: f"{{p{next(count)}}}", path)


class Choice:
    """A route with its decoders made ready."""

    __slots__ = ("at_once", "bodies", "check", "empty", "handler", "names", "ok", "plain", "queries", "route")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.handler = route.handler
        self.names = [(f"p{place}", name) for place, name in enumerate(_PARAMETER.findall(route.path))]
        self.check = POLICIES[route.policy]
        self.ok = ByVersion(route.ok)
        self.bodies = ByVersion(route.body)
        self.queries: ByVersion | None = None
        if isinstance(route.query, dict):
            self.queries = ByVersion({version: QueryReader(shape) for version, shape in route.query.items()})
        elif route.query is not None:
            self.queries = ByVersion(QueryReader(route.query))
        self.empty = route.body is None
        self.plain = self.queries is None and self.empty and not route.stream  # nothing to read but the path
        assert self.empty or route.method not in BODILESS, f"{route.method} {route.path} would have a body"
        self.at_once = not inspect.iscoroutinefunction(route.handler)
        if self.at_once:
            takes = list(inspect.signature(route.handler).parameters)[2:]
            assert takes == [name for _, name in self.names], (
                f"{route.method} {route.path}: parameters in another order"
            )


class Endpoint:
    """All routes of one path and method of a face."""

    def __init__(self, runtime: Runtime, authenticator: Authenticator, face: Face, routes: list[Route]) -> None:
        self._runtime = runtime
        self._authenticator = authenticator
        self._face = face
        self._choices = [Choice(route) for route in routes]
        self._actions = {route.action for route in routes} - {None}
        self._repeatable = routes[0].method == "POST" and routes[0].policy != "none"
        self._public = all(route.policy == "none" for route in routes)
        assert self._public or all(route.policy != "none" for route in routes), "a path is public or it is not"
        at_once = [choice.at_once for choice in self._choices]
        self.at_once = all(at_once)
        assert self.at_once or not any(at_once), "the routes of a path and method wait, or none does"
        assert not self.at_once or (routes[0].method in BODILESS and not self._public), "only reads are done at once"
        #: Whether it can be asked without Falcon, which is what carries streams.
        self.direct = not any(route.stream or route.gives_stream for route in routes)
        only = self._choices[0]
        bounded = only.route.since != FIRST_VERSION or only.route.until < 1 << 31
        self._only = only if len(self._choices) == 1 and not self._actions and not bounded else None

    async def respond(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, **params: str) -> None:
        """The Falcon responder. Raises nothing: whatever goes wrong becomes an answer."""
        started = time.perf_counter()
        request = Request(self._runtime, req.scope, req._asgi_headers, new_request_id())
        try:
            if self.at_once:
                self._answer_at_once(request, resp, params)
            else:
                await self._answer(request, req, resp, params)
        except Exception as error:  # noqa: BLE001 - the one place where what nobody foresaw becomes a 500
            self._write_failure(resp, error, request)
        common_headers(resp, self._face, request.request_id, request.version)
        self._log(request, resp.status_code, started)

    def read(self, scope: Scope, headers: dict[bytes, bytes], params: dict[str, str]) -> Reply:
        """The answer of a route that waits for nothing, without Falcon. Raises nothing."""
        started = time.perf_counter()
        request = Request(self._runtime, scope, headers, new_request_id())
        reply = Reply()
        try:
            self._answer_at_once(request, reply, params)
        except Exception as error:  # noqa: BLE001 - as in respond()
            self._write_failure(reply, error, request)
        return self._finish(request, reply, started)

    async def answer(self, scope: Scope, headers: dict[bytes, bytes], params: dict[str, str], body: bytes) -> Reply:
        """The answer to a request that is here as a whole, without Falcon. Raises nothing."""
        started = time.perf_counter()
        request = Request(self._runtime, scope, headers, new_request_id())
        reply = Reply()
        try:
            await self._answer(request, Asked(scope, headers, body), reply, params)
        except Exception as error:  # noqa: BLE001 - as in respond()
            self._write_failure(reply, error, request)
        return self._finish(request, reply, started)

    def _finish(self, request: Request, reply: Reply, started: float) -> Reply:
        reply.said = common_lines(self._face, request.request_id, request.version)
        self._log(request, reply.status, started)
        return reply

    def _write_failure(self, resp: Response, error: Exception, request: Request) -> None:
        if isinstance(error, NovaFastError):
            write_error(resp, self._face, error, request)
            return
        log_fault("%s %s %s failed", request.request_id, request.method, request.scope["path"], error=error)
        write_fault(resp, self._face, request.request_id)

    def _log(self, request: Request, status: int, started: float) -> None:
        ms = (time.perf_counter() - started) * 1000
        token: Verified | None = getattr(request, "token", None)
        ids = request.request_id, request.global_request_id
        log_access(self._face.name, request.scope, (status, ms), ids, None if token is None else token.grant)

    def _answer_at_once(self, request: Request, resp: Response, params: dict[str, str]) -> None:
        with self._runtime.store.snapshot() as snapshot:
            self._identify(request, self._authenticator.verify(snapshot, request.headers.get(_TOKEN)))
            choice = self._only or self._choose(request, None)
            _check_policy(choice, request)
            if choice.queries is not None:
                request.query = choice.queries.at(request.version).read(request.scope["query_string"])
            answer = choice.handler(request, snapshot, *params.values())  # in the order of the path
        write_answer(resp, answer, choice.ok.at(request.version))

    async def _answer(self, request: Request, req: Requested, resp: Response, params: dict[str, str]) -> None:
        if self._public:
            request.version = self._negotiate(request)
        else:
            with self._runtime.store.snapshot() as snapshot:
                verified = self._authenticator.verify(snapshot, request.headers.get(_TOKEN))
            self._identify(request, verified)
        choice, raw = self._only, None
        if choice is None:
            action, raw = await self._action(request, req)
            choice = self._choose(request, action)
        _check_policy(choice, request)
        if not choice.plain:
            await self._read(request, req, choice, raw)
        named = {name: params[place] for place, name in choice.names}
        if self._repeatable and HEADER in request.headers:
            answer = await answer_once(request, self._face, choice.handler, named)
        else:
            answer = await choice.handler(request, **named)
        write_answer(resp, answer, choice.ok.at(request.version))

    # ------------------------------------------------------------------ steps
    def prepare(self, snapshot: Reader, headers: dict[bytes, bytes]) -> tuple[Choice | None, Verified, int]:
        """For who makes many requests of one path: the only choice if it needs nothing but the path and answers 200,
        who asks, and in which version. Raises NovaFastError as an answer would.
        """
        verified = self._authenticator.verify(snapshot, headers.get(_TOKEN))
        request = Request(self._runtime, _NO_SCOPE, headers, "")
        self._identify(request, verified)
        choice = self._only
        if choice is None or not (self.at_once and choice.plain and choice.ok.at(request.version) == 200):
            return None, verified, request.version
        _check_policy(choice, request)
        return choice, verified, request.version

    def _negotiate(self, request: Request) -> int:
        incoming = request.headers.get(b"x-openstack-request-id")
        if incoming is not None:
            text = incoming.decode("latin-1")
            request.global_request_id = text if _REQUEST_ID.fullmatch(text) else ""
        versions = self._face.microversions
        if versions is None:
            return 0
        return versions.minimum if "nova_fast.legacy" in request.scope else versions.negotiate(request.headers)

    def _identify(self, request: Request, verified: Verified) -> None:
        request.token = verified
        request.version = self._negotiate(request)
        grant = verified.grant
        project = request.scope.get("nova_fast.project")
        if project and project != grant.project_id:
            raise BadRequest(
                f"Malformed request URL: URL's project_id '{project}' doesn't match Context's project_id "
                f"'{grant.project_id}'",
                code="foreign_project",
            )
        request.caller = Caller(
            user_id=grant.user_id,
            project_id=grant.project_id,
            roles=grant.roles,
            domain_id=grant.domain_id,
            system=grant.system,
            request_id=request.request_id,
        )

    async def _action(self, request: Request, req: Requested) -> tuple[str | None, msgspec.Raw | None]:
        """The one key of an action's body and what is under it; None when no route of this path is an action."""
        if not self._actions:
            return None, None
        media = tuple({media for choice in self._choices for media in choice.route.media})
        request.media = bodies.check_media(req.content_type, media)
        action, raw = bodies.decode_action(await self._whole_body(req))
        if action not in self._actions:
            raise BadRequest(f"There is no such action: {action[:80]}", code="unknown_action")
        return action, raw

    def _choose(self, request: Request, action: str | None) -> Choice:
        for choice in self._choices:
            route = choice.route
            if route.action == action and route.since <= request.version <= route.until:
                return choice
        raise NotFound("The resource could not be found.", code="version_gate")

    async def _read(self, request: Request, req: Requested, choice: Choice, raw: msgspec.Raw | None) -> None:
        if choice.queries is not None:
            request.query = choice.queries.at(request.version).read(request.scope["query_string"])
        if choice.route.stream:
            request.media = bodies.check_media(req.content_type, choice.route.media)
            request.stream = self._stream(req)
        elif not choice.empty:
            shape = choice.bodies.at(request.version)
            if raw is None:
                request.media = bodies.check_media(req.content_type, choice.route.media)
                request.body = bodies.decode(await self._whole_body(req), shape)
            else:
                request.body = bodies.decode(bytes(raw), shape)

    async def _whole_body(self, req: Requested) -> bytes:
        limit = self._runtime.config.api.max_body_bytes
        if isinstance(req, Asked):
            body = bodies.bounded(req.body, limit)
        else:
            incoming: Incoming = req.scope["nova_fast.incoming"]
            body = await bodies.read_whole(req.stream, incoming, declared_length(req), limit)
        req.scope["nova_fast.body"] = body
        return body

    def _stream(self, req: Requested) -> AsyncIterator[bytes]:
        assert isinstance(req, falcon.asgi.Request), "a stream is read through Falcon"
        return bodies.stream(req.stream, req.scope["nova_fast.incoming"], declared_length(req))


def _check_policy(choice: Choice, request: Request) -> None:
    if choice.check is not None and not choice.check(request.caller):
        raise Forbidden("You are not authorized to perform the requested action.", code="policy")


def declared_length(req: falcon.asgi.Request) -> int | None:
    """The Content-Length, which the server has parsed already; None for a chunked body."""
    value = req._asgi_headers.get(b"content-length")
    return int(value) if value is not None and value.isdigit() else None


# ---------------------------------------------------------------------- writing


def write_answer(resp: Response, answer: Any, ok: int) -> None:
    """Put what a handler gave back into the response; bytes are JSON that is encoded."""
    if not isinstance(answer, Answer):
        resp.status = ok
        if answer is not None:  # its content type is the default
            resp.data = answer if type(answer) is bytes else _encode(answer)
        return
    resp.status = ok if answer.status is None else answer.status
    if answer.headers:
        resp.set_headers(answer.headers)
    if answer.stream is not None:
        assert not isinstance(resp, Reply) or resp.streams, "a route that gives a stream says so where it is declared"
        resp.stream = answer.stream
        resp.content_type = answer.content_type
    elif answer.body is not None:
        resp.data = answer.body if isinstance(answer.body, bytes) else _encode(answer.body)
        resp.content_type = answer.content_type


def write_error(resp: Response, face: Face, error: NovaFastError, request: Request) -> None:
    """Put an error into the response in the manner of the face; a 401 is in Keystone's manner on every face."""
    status = face.errors.status(error)
    if status == 500:
        log_fault("%s failed: %s (%s)", request.request_id, error.message, error.code)
        write_fault(resp, face, request.request_id)
        return
    # For who asks in this process and need not read the sentence. Not the error itself: its traceback holds the scope,
    # and a body of 1 MiB would stay until the collector comes.
    request.scope["nova_fast.failure"] = error.failure()
    maker = keystone_body if status == 401 else face.errors.body
    write_problem(resp, status, maker(status, sentence(error), error.code, request.request_id))
    if status == 401:
        resp.set_header("www-authenticate", f'Keystone uri="{request.identity_url}"')
    if status in (413, 429, 503):
        resp.set_header("retry-after", "0" if status == 413 else "1")
    if error.code == "truncated_body":
        resp.set_header("connection", "close")


def write_fault(resp: Response, face: Face, request_id: str) -> None:
    """Put a 500 into the response that shows nothing of the inside but the id under which it was logged."""
    message = f"An unexpected error prevented the server from fulfilling your request ({request_id})."
    write_problem(resp, 500, face.errors.body(500, message, "internal", request_id))


def write_problem(resp: Response, status: int, body: Any) -> None:
    """Put an error body into the response, in place of whatever was there."""
    resp.stream = None
    resp.status = status
    resp.data = _encode(body)
    resp.content_type = JSON


def common_headers(resp: falcon.asgi.Response, face: Face, request_id: str, version: int) -> None:
    """What every answer of a face carries: request ids, microversion, Vary."""
    headers = resp._headers  # PERF: set_headers() would check again what is in lower case and no cookie; 0.2 µs each
    said = face.said.get(version)
    if said is None:
        said = face.said[version] = face.version_headers(None if version == NO_VERSION else version)
    headers.update(said)
    headers["x-openstack-request-id"] = request_id
    if face.name == "compute":
        headers["x-compute-request-id"] = request_id


def common_lines(face: Face, request_id: str, version: int) -> bytes:
    """The same as they are written."""
    said = face.said_lines.get(version)
    if said is None:
        said = face.said_lines[version] = lines(face.version_headers(None if version == NO_VERSION else version))
    if face.name == "compute":
        return b"%bx-openstack-request-id: %b\r\nx-compute-request-id: %b\r\n" % (said, *(request_id.encode(),) * 2)
    return b"%bx-openstack-request-id: %b\r\n" % (said, request_id.encode())
