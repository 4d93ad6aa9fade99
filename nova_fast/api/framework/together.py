"""Reads that are answered together: in one state, with one look at who asks, for all that comes in one turn.

For who asks in this process and not over HTTP (``api/zmq``). Most reads are of one thing by its path, and of a success
only the body is wanted. Such a read is done here in half the time; what is anything else, or goes wrong in any way, is
left to the endpoint, which does it from the beginning.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import msgspec

from nova_fast.api.framework.auth import Verified
from nova_fast.api.framework.build import FaceApp, Scope
from nova_fast.api.framework.endpoint import Endpoint, new_request_id
from nova_fast.api.framework.log import log_access
from nova_fast.api.framework.request import Request
from nova_fast.api.framework.route import Answer
from nova_fast.model.errors import NovaFastError
from nova_fast.model.identity import Caller
from nova_fast.queries.reading import Reader, Snapshots

#: A path without query and quoting, as a request line may hold it.
_PLAIN = re.compile(r"/[!-$&->@-~]{0,1023}")
_encode = msgspec.json.Encoder().encode


class Moment:
    """One state of the store for a turn of the loop, opened when somebody reads; a context manager.

    SAFETY: whoever asks in this turn asked before it began, so nobody misses what he has been told is done. It is never
    held across an await.
    """

    __slots__ = ("_open", "_store", "number")

    def __init__(self, store: Snapshots) -> None:
        self._store = store
        self._open: Any = None  # the context manager of a snapshot
        self.number = 0  # of the turn

    def __enter__(self) -> None:
        self.number += 1

    def __exit__(self, *_: object) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            opened.__exit__(None, None, None)

    def snapshot(self) -> Reader:
        """The state."""
        if self._open is None:
            self._open = self._store.snapshot()
            self._open.__enter__()
        found: Reader = self._open
        return found


class _Way(msgspec.Struct, frozen=True):
    """How one endpoint is read by one caller: what was checked, in this moment."""

    handler: Callable[..., Any]
    verified: Verified
    version: int


class Reads:
    """The reads of somebody with a token, of one face."""

    __slots__ = ("_app", "_headers", "_moment", "_number", "_runtime", "_scope", "_ways")

    def __init__(self, app: FaceApp, moment: Moment, scope: Scope) -> None:
        """``scope`` is a request's without a path."""
        self._app = app
        self._runtime = app.runtime
        self._moment = moment
        self._scope = scope
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self._number = 0
        self._ways: dict[Endpoint, _Way | None] = {}

    def body(self, target: str) -> bytes | None:
        """The body of a 200; ``None`` for whatever is to be asked of the endpoint."""
        found = self._app.find_plain(target) if _PLAIN.fullmatch(target) else None
        if found is None:
            return None
        started = time.perf_counter()
        endpoint, params = found
        moment = self._moment
        if self._number != moment.number:
            self._number = moment.number
            self._ways.clear()
        if endpoint in self._ways:
            way = self._ways[endpoint]
        else:
            way = self._ways[endpoint] = self._way(endpoint, moment.snapshot())
        return None if way is None else self._read(way, target, params, started)

    def _way(self, endpoint: Endpoint, snapshot: Reader) -> _Way | None:
        """Who asks, in which microversion, and may he: as the endpoint finds it; None when it shall say no."""
        try:
            choice, verified, version = endpoint.prepare(snapshot, self._headers)
        except NovaFastError:
            return None
        return None if choice is None else _Way(choice.handler, verified, version)

    def _read(self, way: _Way, target: str, params: dict[str, str], started: float) -> bytes | None:
        scope = self._scope.copy()
        scope["path"] = target
        scope["raw_path"] = target.encode()
        request = Request(self._runtime, scope, self._headers, new_request_id())
        grant = way.verified.grant
        request.token, request.version = way.verified, way.version
        request.caller = Caller(
            user_id=grant.user_id, project_id=grant.project_id, roles=grant.roles, domain_id=grant.domain_id,
            system=grant.system, request_id=request.request_id,
        )  # fmt: skip
        try:
            answer = way.handler(request, self._moment.snapshot(), *params.values())
        except Exception:  # noqa: BLE001 - the endpoint meets it again, and makes an answer of it
            return None
        if answer is None or isinstance(answer, Answer):
            return None
        ms = (time.perf_counter() - started) * 1000
        log_access(self._app.name, scope, (200, ms), (request.request_id, ""), grant)
        return answer if type(answer) is bytes else _encode(answer)
