"""The receiving end of a request, which remembers that the client went away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

Receive = Callable[[], Awaitable[Any]]


class Incoming:
    """An ASGI ``receive`` that notes a disconnect, where Falcon's stream just ends: a torn upload must not pass."""

    __slots__ = ("_receive", "disconnected")

    def __init__(self, receive: Receive) -> None:
        self._receive: Receive | None = receive
        self.disconnected = False

    async def __call__(self) -> Any:
        assert self._receive is not None, "the request is over"
        event = await self._receive()
        if event["type"] == "http.disconnect":
            self.disconnected = True
        return event

    def forget(self) -> None:
        """The request is over: let go of the server's side.

        PERF: the server's side holds the scope, which holds this; as a ring it would wait for the garbage collector.
        """
        self._receive = None
