"""How the many come back when the hub has lost them all at once: it was restarted, or a switch was.

What a newcomer costs (the handshake, the calls it makes again, the events it asks for) is time in which nobody else is
served. So the hub says in its PINGs over how long nodes are to spread, and one that has lost its connection waits a
random part of that before it connects anew; if the hub is not there then, its attempts are as far apart. A small
cloud need not spread, and neither need whoever is one of few and waited for, as API workers are
(``Contracts.waits_to_return``). The first connection of a process is never put off.

Who alone has lost it waits, too: a node cannot know that it is alone. A connection ends in the same way when the hub
was killed and when a cable was pulled, and a hub that answers at once may have been started again at once; whom a node
could ask is the hub, and a question there costs the handshake that is to be saved. The wait is half of ``down_after_s``
at most, so the node does not even count as down meanwhile, and what it was asked waits for it.
"""

from __future__ import annotations

from collections.abc import Callable

from nova_fast.hub import wire
from nova_fast.hub.contracts import ENCODER

RECONNECT_MS, RECONNECT_MS_WAITING, RECONNECT_MS_MAX = 50, 250, 1000  # until something else is known
SPREAD_S_MIN = 0.2  # less is not worth the wait
SPREAD_SHARE_MAX = 0.5  # of the time after which a silent peer counts as down


def ping(peers: int, returns_per_s: float, down_after_s: float) -> bytes:
    """A PING, of a hub with so many peers, for those who wait to return."""
    spread_s = min(peers / returns_per_s, SPREAD_SHARE_MAX * down_after_s)
    return wire.pack(wire.PING, body=ENCODER.encode(wire.Pace(spread_s=spread_s if spread_s >= SPREAD_S_MIN else 0.0)))


class Return:
    """A peer's part of it; ``waits`` if it is one of many."""

    __slots__ = ("_entropy", "_waits", "spread_s")

    def __init__(self, entropy: Callable[[int], bytes], *, waits: bool) -> None:
        self._entropy = entropy
        self._waits = waits
        self.spread_s = 0.0

    @property
    def reconnect_ms(self) -> tuple[int, int]:
        """What a new socket is given. One that waits has the time to notice that its connection is gone."""
        if self.spread_s:
            return int(self.spread_s * 500), 0
        return (RECONNECT_MS_WAITING if self._waits else RECONNECT_MS), RECONNECT_MS_MAX

    def heard(self, body: memoryview) -> None:
        """A PING has said something. Raises MsgspecError."""
        self.spread_s = wire.PACE_DECODER.decode(body).spread_s

    def wait_s(self) -> float:
        """How long to wait now."""
        return self.spread_s * int.from_bytes(self._entropy(4), "big") / 2**32
