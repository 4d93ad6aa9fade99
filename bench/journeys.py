"""What a user does: one request, or several that hang together. Mixes are shares of journeys.

A journey is told the answer to each of its requests and says what comes next: further bytes to send, a pause in
seconds, or nothing. So the generator knows nothing of servers, and the journeys nothing of sockets.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

PAUSE_S = 0.05  # between two looks at a server that is being built or deleted
LOOKS_MAX = 1200


class Next(NamedTuple):
    """What a journey does after an answer. ``request`` None: it is over, ``ok`` or not."""

    request: bytes | None = None
    pause_s: float = 0.0
    ok: bool = True


OVER, FAILED = Next(), Next(ok=False)


class Journey(Protocol):
    """One arrival."""

    def begin(self) -> bytes:
        """The first request."""
        ...

    def answered(self, status: int, body: bytes) -> Next:
        """What comes after this answer."""
        ...


def request_bytes(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """A whole HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bench", *(f"{name}: {value}" for name, value in headers.items())]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class World:
    """What the journeys of one generator share: how to ask, what there is, what they made themselves."""

    def __init__(self, headers: dict[str, str], create: dict[str, Any], ids: list[str], rng: random.Random) -> None:
        self.rng = rng
        self._headers = headers
        self._create = json.dumps(create).encode()
        self._gets = [self.ask("GET", f"/v2.1/servers/{server_id}") for server_id in ids]
        self.made: deque[str] = deque()  # servers for later journeys to delete

    def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        return request_bytes(method, path, self._headers, body)

    def create(self) -> bytes:
        return self.ask("POST", "/v2.1/servers", self._create)

    def read(self) -> bytes:
        return self.rng.choice(self._gets)


class One:
    """A single request."""

    __slots__ = ("_request",)

    def __init__(self, request: bytes) -> None:
        self._request = request

    def begin(self) -> bytes:
        return self._request

    def answered(self, status: int, body: bytes) -> Next:
        return OVER if 200 <= status < 300 else FAILED


class Create:
    """POST /servers; the server is left for a Delete."""

    def __init__(self, world: World) -> None:
        self._world = world

    def begin(self) -> bytes:
        return self._world.create()

    def answered(self, status: int, body: bytes) -> Next:
        if status != 202:
            return FAILED
        self._world.made.append(json.loads(body)["server"]["id"])
        return OVER


class Lifecycle:
    """A server from its creation over ACTIVE to its end: POST, GET until ACTIVE, DELETE, GET until 404."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._path = ""
        self._looks = 0
        self._deleted = False

    def begin(self) -> bytes:
        return self._world.create()

    def answered(self, status: int, body: bytes) -> Next:
        if not self._path:
            if status != 202:
                return FAILED
            self._path = f"/v2.1/servers/{json.loads(body)['server']['id']}"
            return self._look()
        if status == 204:
            self._deleted = True
            return self._look()
        if status == 404 and self._deleted:
            return OVER
        if status != 200:
            return FAILED
        state = json.loads(body)["server"]["status"]
        if state == "ACTIVE" and not self._deleted:
            return Next(self._world.ask("DELETE", self._path))
        return FAILED if state == "ERROR" or self._looks > LOOKS_MAX else self._look()

    def _look(self) -> Next:
        self._looks += 1
        return Next(self._world.ask("GET", self._path), PAUSE_S)


def _create_or_delete(world: World) -> Journey:
    """As many deletions as creations: what is deleted was made by an earlier journey, 50 of them ago."""
    if len(world.made) > 50:
        return One(world.ask("DELETE", f"/v2.1/servers/{world.made.popleft()}"))
    return Create(world)


KINDS: dict[str, Callable[[World], Journey]] = {
    "read": lambda world: One(world.read()),
    "list": lambda world: One(world.ask("GET", "/v2.1/servers/detail?limit=100")),
    "create": Create,
    "create_delete": _create_or_delete,
    "lifecycle": Lifecycle,
}
#: Name of a mix → shares of the kinds. "mixed" is a cloud whose users look often and change seldom.
MIXES: dict[str, dict[str, float]] = {
    "read": {"read": 1},
    "list": {"list": 1},
    "create": {"create": 1},
    "create_delete": {"create_delete": 1},
    "lifecycle": {"lifecycle": 1},
    "mixed": {"read": 0.80, "list": 0.10, "create_delete": 0.09, "lifecycle": 0.01},
}


def chooser(world: World, mix: dict[str, float]) -> Callable[[], tuple[str, Journey]]:
    """Draws journeys by their shares."""
    kinds, weights = list(mix), list(mix.values())

    def choose() -> tuple[str, Journey]:
        [kind] = world.rng.choices(kinds, weights) if len(kinds) > 1 else kinds
        return kind, KINDS[kind](world)

    return choose
