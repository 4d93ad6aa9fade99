"""A worker that runs out of file descriptors says so to whoever comes, as long as it can.

A connection that cannot be accepted is reset, and nobody knows why. So the last few descriptors are kept: who gets
one of them is told 503 and the reason when he has asked, and is let go. They also are what an upload or the store may
need, so those who are connected are served on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource

log = logging.getLogger(__name__)

DESCRIPTORS_KEPT = 16
WAIT_S = 2.0  # for a request; then it gets the answer without one
_LOG_EVERY_S = 10.0

_BODY = json.dumps(
    {
        "error": {
            "code": 503,
            "title": "Service Unavailable",
            "message": "The API has no file descriptors left: it takes no new connections until some are free again.",
        }
    }
).encode()
_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"retry-after: 1\r\nconnection: close\r\n\r\n%s" % (len(_BODY), _BODY)
)
_logged_s = float("-inf")


def is_full(transport: asyncio.Transport) -> bool:
    """Whether this connection has one of the last descriptors: the kernel gives the lowest that is free."""
    taken = transport.get_extra_info("socket")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return taken is not None and limit != resource.RLIM_INFINITY and taken.fileno() >= limit - DESCRIPTORS_KEPT


class Refusal(asyncio.Protocol):
    """A connection that is told so."""

    def __init__(self, transport: asyncio.Transport) -> None:
        global _logged_s
        self._transport = transport
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(WAIT_S, self._answer)
        if loop.time() - _logged_s >= _LOG_EVERY_S:
            _logged_s = loop.time()
            log.warning("few file descriptors are left: new connections are refused")

    def data_received(self, data: bytes) -> None:
        """Asked: answer, whatever it is."""
        self._answer()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._timer.cancel()

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(_ANSWER)
            self._transport.close()
