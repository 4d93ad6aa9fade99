"""The worker's own application, asked in this process: an Ask becomes a request of its face, without HTTP.

What changes something goes through the whole application as an ASGI scope. A GET goes to the endpoint's responder at
once, with as much of a request and a response as that looks at. Reads of one thing are answered together: in one state
of the store for a whole turn (``framework/together.py``).

PERF: a GET is driven by hand until its end, because it does not wait for anything: no task, no turn of the loop; one
that does wait after all goes on as a task. Falcon's request and response objects and ASGI's events, which cost as much
as the answer itself, are left out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any

import msgspec

from nova_fast.api.app import FACES, port_of
from nova_fast.api.driven import drive
from nova_fast.api.framework.build import Application, FaceApp
from nova_fast.api.framework.direct import Asked, Reply
from nova_fast.api.framework.route import JSON
from nova_fast.api.framework.together import Moment, Reads
from nova_fast.api.zmq.scopes import READS, Scope, Scopes
from nova_fast.config import Config
from nova_fast.model.errors import InternalError, NovaFastError, TooLarge
from nova_fast.model.sdk import Answer, Ask
from nova_fast.queries.reading import Snapshots

ANSWER_BYTES_MAX = 8 << 20
#: What says nothing to a client of the SDK, or says it elsewhere in the Answer.
_PASSED_OVER = frozenset({"content-length", "vary", "x-compute-request-id", "x-openstack-nova-api-version"})
_OVER = {"type": "http.disconnect"}
_STATUSES = {"bad_request": 400, "not_found": 404, "too_large": 413}


class Inside:
    """Asks the application."""

    def __init__(self, app: Application, config: Config, store: Snapshots) -> None:
        self._app = app
        self.moment = Moment(store)  # of the turn in which is asked
        self._faces: dict[str, FaceApp] = {name: app.face(port_of(config.api, name)) for name in FACES}
        self._config = config

    def speaker(self, token: bytes) -> Speaker:
        """Somebody who asks with a token."""
        return Speaker(self._app, self._faces, Scopes(self._config, token), self.moment)


class Speaker:
    """Asks with one token."""

    __slots__ = ("_app", "_faces", "_moment", "_reads", "_scopes")

    def __init__(self, app: Application, faces: dict[str, FaceApp], scopes: Scopes, moment: Moment) -> None:
        self._app = app
        self._faces = faces
        self._scopes = scopes
        self._moment = moment
        self._reads: Reads | None = None

    def ask(self, ask: Ask) -> Answer | Coroutine[Any, Any, Answer]:
        """The answer, or what has to be awaited for it. Raises nothing: whatever is wrong becomes an Answer."""
        if ask.method == "GET" and ask.face == "compute" and not (ask.headers or ask.key):
            reads = self._reads
            if reads is None:
                scope = self._scopes.reading("compute")
                reads = self._reads = Reads(self._faces["compute"], self._moment, scope)
            body = reads.body(ask.target)
            if body is not None:
                return Answer(200, body)
        return self._ask(ask)

    def _ask(self, ask: Ask) -> Answer | Coroutine[Any, Any, Answer]:
        """The same for whatever is asked."""
        try:
            scope = self._scopes.scope(ask)
        except NovaFastError as error:
            return refusal(error)
        if ask.method == "GET":
            found = self._faces[ask.face].find(scope)
            if found is not None:
                responder, named = found
                told = _Told()
                return _drive(responder(Asked(scope, dict(scope["headers"]), b""), told, **named), told, scope)
        sink = _Sink(ask.body)
        serving = self._app(scope, sink.receive, sink.send)
        if ask.method in READS:
            return _drive(serving, sink, scope)
        return _finish(serving, sink, scope)


def refusal(error: NovaFastError) -> Answer:
    """The Answer to what does not get as far as a face."""
    status = _STATUSES.get(error.kind.value, 500)
    body = msgspec.json.encode({"error": {"code": status, "message": error.message}})
    return Answer(status=status, body=body, failure=error.failure())


class _Told(Reply):
    """What an endpoint makes of a response, which may be a stream here."""

    __slots__ = ()
    streams = True

    def __init__(self) -> None:
        super().__init__()
        self._headers = {}

    def answer(self, scope: Scope) -> Answer | Coroutine[Any, Any, Answer]:
        """What was made, which has to be read first when it is a stream."""
        if self.stream is not None:
            return self._read_stream(scope)
        body = self.data or b""
        if self.status == 200 and scope["nova_fast.bare"]:  # PERF: the commonest of all
            return Answer(200, body)
        return self._whole(body, scope)

    async def _read_stream(self, scope: Scope) -> Answer:
        stream, self.stream = self.stream, None
        parts: list[bytes] = []
        size = 0
        try:
            async for part in stream:
                size += len(part)
                if size > ANSWER_BYTES_MAX:
                    return _too_large(size)
                parts.append(part)
        finally:
            if hasattr(stream, "aclose"):
                await stream.aclose()
        return self._whole(b"".join(parts), scope)

    def _whole(self, body: bytes, scope: Scope) -> Answer:
        return _answer(self.status, {**(self._headers or {}), "content-type": self.content_type}, body, scope)


class _Sink:
    """The two ends of one ASGI request: gives its body, takes its answer."""

    __slots__ = ("_body", "_bytes", "_headers", "_parts", "_status")

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self._bytes = 0

    async def receive(self) -> dict[str, Any]:
        body = self._body
        if body is None:
            return _OVER
        self._body = None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, event: dict[str, Any]) -> None:
        if event["type"] == "http.response.start":
            self._status = event["status"]
            self._headers = event.get("headers", [])
            return
        part = event.get("body")
        if part:
            self._bytes += len(part)
            if self._bytes <= ANSWER_BYTES_MAX:
                self._parts.append(part)

    def answer(self, scope: Scope) -> Answer:
        """What has come."""
        if not self._status:
            return refusal(InternalError("The request was not answered."))
        if self._bytes > ANSWER_BYTES_MAX:
            return _too_large(self._bytes)
        headers = {name.decode(): value.decode("latin-1") for name, value in self._headers}
        return _answer(self._status, headers, b"".join(self._parts), scope)


def _answer(status: int, headers: dict[str, str], body: bytes, scope: Scope) -> Answer:
    if headers.get("content-type") == JSON:
        del headers["content-type"]
    return Answer(
        status=status,
        body=body,
        headers={name: value for name, value in headers.items() if name not in _PASSED_OVER},
        failure=scope.get("nova_fast.failure"),
    )


def _too_large(size: int) -> Answer:
    hint = "ask for a smaller page, or over HTTP"
    return refusal(TooLarge(f"The answer has {size} bytes or more.", code="answer_too_large", hint=hint))


def _drive(
    serving: Coroutine[Any, Any, None], end: _Told | _Sink, scope: Scope
) -> Answer | Coroutine[Any, Any, Answer]:
    """Run it until its end; if it waits, the rest is for a task."""
    rest = drive(serving)
    return end.answer(scope) if rest is None else _finish(rest, end, scope)


async def _finish(serving: Awaitable[None], end: _Told | _Sink, scope: Scope) -> Answer:
    await serving
    answer = end.answer(scope)
    return answer if isinstance(answer, Answer) else await answer
