"""What a client of the ZeroMQ SDK and its door in an API worker say to each other.

An :class:`Ask` is a request of the REST API without HTTP: face, method, target, body; its :class:`Answer` is what REST
would have answered. Many travel in one message. A message carries the token that speaks for all of it, so a worker
remembers nothing of a client, and another worker can go on where one ended.

Watching is asking as well: "what came after this generation?", answered as soon as there is something. The place in
the stream is the client's, so nothing is lost or repeated when a worker or the conductor is restarted.

Events are public. An event type may get new fields, each with a default; a type this release does not know is passed
over by the client. :data:`EVENTS_VERSION` grows when an old client would misread what it knows.
"""

from __future__ import annotations

import msgspec

from nova_fast.model.base import Message, Value
from nova_fast.model.errors import Failure

#: Asks in one message.
ASKS_MAX = 64
EVENTS_VERSION = 1
#: Events in one answer, and how long a watcher may let the door wait for the first.
EVENTS_MAX = 1000
WATCH_WAIT_S_MAX = 30.0
#: ``after`` of a watcher who only wants to know where the stream is.
NOW = -1


class Ask(Value, frozen=True):
    """One request of a face."""

    face: str  # compute, identity, image, network, placement
    method: str
    target: str  # path and query as in a request line: /v2.1/servers?limit=5
    body: bytes = b""
    key: str = ""  # the Idempotency-Key of a POST
    headers: dict[str, str] = {}  # others; content-type is JSON unless it is here


class Asks(Message, frozen=True):
    """Requests that travel together; answered together, when the last is done."""

    asks: tuple[Ask, ...]
    token: str = ""  # "" = that of the client's key, or none


class Answer(Value, frozen=True):
    """What REST would have answered."""

    status: int
    body: bytes
    headers: dict[str, str] = {}  # those that say something: not the length, not JSON as the type
    failure: Failure | None = None  # the error behind a status of 400 and above, before a face put it into its words


class Answers(Message, frozen=True):
    """One for each Ask, in their order."""

    answers: tuple[Answer, ...]


class Watch(Message, frozen=True):
    """What the caller may see of what happened after a generation; waits a while for the first of it."""

    after: int
    token: str = ""
    limit: int = EVENTS_MAX
    wait_s: float = 0.0


class Seen(Message, frozen=True):
    """Events in order, each with its generation, and where to go on."""

    position: int  # everything up to and with this generation has been told
    events: tuple[msgspec.Raw, ...] = ()  # of PublicEvent
    gap: bool = False  # events after the generation asked for are kept no more: what was read before must be read anew
    version: int = EVENTS_VERSION


class ServerEvent(Message, frozen=True, tag="server.changed"):
    """A server's record changed; it is DELETED when it is gone. Told to its project and to admins."""

    generation: int
    server_id: str
    project_id: str
    status: str  # as the Compute API shows it
    task_state: str | None = None
    host: str = ""  # told to admins only


class HostEvent(Message, frozen=True, tag="host.changed"):
    """A host appeared, reported other resources, went up or down, or its operator changed it. Told to admins."""

    generation: int
    host: str
    up: bool
    enabled: bool
    forced_down: bool = False
    zone: str = ""


class HostGone(Message, frozen=True, tag="host.removed"):
    """A host was removed. Told to admins."""

    generation: int
    host: str


PublicEvent = ServerEvent | HostEvent | HostGone
