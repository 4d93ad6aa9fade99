"""``GET /servers``, ``/servers/detail`` and ``/servers/{id}``: what is asked most of the whole API."""

from __future__ import annotations

import msgspec

from nova_fast.api.compute.face import face
from nova_fast.api.compute.server_answers import BRIEF, DETAIL, ServerRows, single
from nova_fast.api.compute.server_filters import LIST_QUERY, understand
from nova_fast.api.framework.paging import clamp_limit, page
from nova_fast.api.framework.request import Request
from nova_fast.queries import servers as queries
from nova_fast.queries.reading import Reader

_encode = msgspec.json.Encoder().encode


@face.route("GET", "/servers", errors=(400, 403), policy="reader", query=LIST_QUERY)
def list_brief(request: Request, snapshot: Reader) -> bytes:
    """Ids, names and links."""
    return _list(request, snapshot, BRIEF)


@face.route("GET", "/servers/detail", errors=(400, 403), policy="reader", query=LIST_QUERY)
def list_detail(request: Request, snapshot: Reader) -> bytes:
    """Whole servers."""
    return _list(request, snapshot, DETAIL)


@face.route("GET", "/servers/{server_id}", errors=(404,), policy="reader")
def show(request: Request, snapshot: Reader, server_id: str) -> bytes:
    """One server."""
    return single(request, snapshot, server_id)


def _list(request: Request, snapshot: Reader, kind: int) -> bytes:
    asked = understand(request)
    limit = clamp_limit(request, asked.limit)
    marker = None
    if asked.marker:
        marker = queries.marked_server(snapshot, request.caller, asked.marker, asked.where)
    keys: list[bytes] = []
    if not asked.nothing and limit > 0:
        keys = queries.server_keys(snapshot, asked.where, asked.order, limit, marker)
    rows = ServerRows(request, snapshot).rows(kind, keys)
    links = page(request, keys, limit, "servers", lambda key: key[:-1].decode())
    end = b"]," + _encode(links)[1:] if links else b"]}"
    # PERF: the ends are put to the first and last row, so that the rows are copied once
    rows = rows or [b""]
    rows[0] = b'{"servers":[' + rows[0]
    rows[-1] += end
    return b",".join(rows)
