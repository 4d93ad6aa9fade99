"""From an Ask to the ASGI scope of a request: what a client may write into it, and what is written here.

SAFETY: over HTTP the server has parsed what arrives; here the client hands over the parts, so each is checked for what
a request can hold at all. Who asks comes from the token of the message and from nothing else.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from nova_fast.api.app import FACES, port_of
from nova_fast.config import Config
from nova_fast.model.errors import BadRequest, NotFound
from nova_fast.model.sdk import Ask

Scope = dict[str, Any]
Headers = list[tuple[bytes, bytes]]

TARGET_CHARACTERS_MAX = 8192
HEADERS_MAX = 20
READS = frozenset({"GET", "HEAD"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_TARGET = re.compile(r"/[!-~]*")
_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")
_VALUE = re.compile(r"[ -~\xa0-\xff]{0,4096}")
_KEY = re.compile(r"[!#-+\--~]{0,255}")
#: Headers that are made here, or that say something of a connection.
_OURS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "expect", "x-auth-token", "idempotency-key"}
)
_JSON = b"application/json"
_NEWEST = {"compute": b"compute latest", "placement": b"placement latest"}
_VERSION = "openstack-api-version"
_ASGI = {"version": "3.0", "spec_version": "2.3"}
_CLIENT = ("sdk", 0)


class Scopes:
    """Makes scopes for one token."""

    __slots__ = ("_bases", "_config", "_token")

    def __init__(self, config: Config, token: bytes) -> None:
        self._config = config
        self._token = token
        self._bases: dict[str, tuple[tuple[str, int], Headers]] = {}  # PERF: of a message's asks most are of one face

    def scope(self, ask: Ask) -> Scope:
        """The scope of a request. Raises NotFound for a face there is not, BadRequest for what no request can hold."""
        target = ask.target
        if len(target) > TARGET_CHARACTERS_MAX or ask.method not in _METHODS or _TARGET.fullmatch(target) is None:
            raise BadRequest("The method or the target is not that of a request.", code="bad_ask", field="target")
        server, headers = self._bases.get(ask.face) or self._base(ask.face)
        if ask.headers or ask.key or ask.method not in READS:
            headers = _whole(ask, headers)
        path, _, query = target.partition("?")
        return _scope(server, headers) | {
            "method": ask.method,
            "path": unquote(path) if "%" in path else path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "nova_fast.bare": ask.face == "compute",  # of a success only the body is wanted
        }

    def reading(self, face: str) -> Scope:
        """What the scopes of all usual reads of a face have in common: all but their paths."""
        server, headers = self._bases.get(face) or self._base(face)
        return _scope(server, headers) | {"method": "GET", "query_string": b""}

    def _base(self, face: str) -> tuple[tuple[str, int], Headers]:
        if face not in FACES:
            raise NotFound(f"There is no face {face[:40]!r}.", code="no_such_face")
        host, port = self._config.public_host, port_of(self._config.api, face)
        headers = [(b"host", f"{host}:{port}".encode())]
        if self._token:
            headers.append((b"x-auth-token", self._token))
        if face in _NEWEST:
            headers.append((_VERSION.encode(), _NEWEST[face]))
        base = self._bases[face] = ((host, port), headers)
        return base


def _scope(server: tuple[str, int], headers: Headers) -> Scope:
    return {
        "type": "http",
        "asgi": _ASGI,
        "http_version": "1.1",
        "server": server,
        "client": _CLIENT,
        "scheme": "http",
        "root_path": "",
        "headers": headers,
    }


def _whole(ask: Ask, base: Headers) -> Headers:
    """All headers of a request that has more than the usual ones."""
    headers = [header for header in base if _VERSION not in ask.headers or header[0] != _VERSION.encode()]
    if ask.method not in READS:
        headers.append((b"content-length", b"%d" % len(ask.body)))
        if ask.body and "content-type" not in ask.headers:
            headers.append((b"content-type", _JSON))
    if ask.key:
        if _KEY.fullmatch(ask.key) is None:
            raise BadRequest("The key of a request is visible ASCII.", code="bad_idempotency_key", field="key")
        headers.append((b"idempotency-key", ask.key.encode()))
    return headers + _given(ask.headers)


def _given(headers: dict[str, str]) -> Headers:
    """Headers of the client's own. Raises BadRequest."""
    if len(headers) > HEADERS_MAX:
        raise BadRequest(f"A request has more than {HEADERS_MAX} headers.", code="bad_ask", field="headers")
    for name, value in headers.items():
        if name in _OURS or _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise BadRequest(f"A request cannot have the header {name[:64]!r}.", code="bad_ask", field="headers")
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
