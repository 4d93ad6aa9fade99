"""What the hub puts up with from one peer, so that nobody else waits for it.

An honest peer has a bounded number of frames under way: calls and answers up to its credits, a window of acknowledged
events, a heartbeat. Whatever it sends beyond its share of one turn of the loop is set aside and worked off between the
frames of the others. More set aside than an honest peer can have under way, or too many frames that break the rules
between two ticks, and its connection is cut and its name barred for a while: twice as long each time, up to a bound,
and as short as at first once it has kept the rules for ten times as long as it was barred.

Cutting loses nothing of an honest peer that was too busy: it comes back and sends again what has no answer.
"""

from __future__ import annotations

from collections import deque

from nova_fast.hub.limits import Limits
from nova_fast.hub.queues import EMPTY, with_room

#: Frames of one peer that are worked off in one turn of the loop; and as many again of all that is set aside.
TURN_FRAMES = 16
STRANGER_FRAMES_MAX = 32  # of a connection that does not say who it is, between two ticks
ASIDE_BYTES_MAX = 32 << 20  # set aside for one peer; above it the oldest is worked off whoever waits
GREETING_PAUSE_S = 0.5  # between two WELCOMEs to one link: each makes the peer send again what it waits for
_FORGOTTEN_AFTER = 10
FRAME_BYTES_SHIFT = 16  # every 64 KiB of a frame count like one more frame


class Conduct:
    """One peer's share, and what it has done with it."""

    __slots__ = (
        "_barred_s",
        "_barred_until_s",
        "_faults",
        "_limits",
        "_taken",
        "_turn",
        "aside",
        "aside_bytes",
        "greeted_s",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.aside: deque[bytes] = EMPTY  # frames that wait for the turns of others
        self.aside_bytes = 0
        self.greeted_s = float("-inf")  # of the loop's clock, when the last WELCOME left
        self._turn = 0
        self._taken = 0
        self._faults = 0
        self._barred_s = 0.0
        self._barred_until_s = float("-inf")

    def has_turn(self, turn: int, frame_bytes: int) -> bool:
        """Whether a frame may be worked off now; if not, it is to be set aside."""
        if self._turn != turn:
            self._turn = turn
            self._taken = 0
        self._taken += 1 + (frame_bytes >> FRAME_BYTES_SHIFT)
        return self._taken <= TURN_FRAMES and not self.aside

    def set_aside(self, frame: bytes) -> None:
        """Keep a frame for a later turn."""
        self.aside = with_room(self.aside)
        self.aside.append(frame)
        self.aside_bytes += len(frame)

    def take_aside(self) -> bytes:
        """The oldest frame that was set aside."""
        frame = self.aside.popleft()
        self.aside_bytes -= len(frame)
        return frame

    def drop_aside(self) -> None:
        self.aside.clear()
        self.aside_bytes = 0

    def fault(self, frame_bytes: int, frames: int = 1) -> bool:
        """A frame that breaks the rules (or, with 0 frames, only wastes its bytes); whether that was one too many."""
        self._faults += frames + (frame_bytes >> FRAME_BYTES_SHIFT)
        return self._faults > self._limits.faults_max

    def forgive(self) -> None:
        """A tick has passed."""
        self._faults = 0

    def bar(self, now_s: float) -> float:
        """It was cut: for how many seconds its name is not let in."""
        kept_rules_s = now_s - self._barred_until_s
        again = kept_rules_s < _FORGOTTEN_AFTER * self._barred_s
        self._barred_s = min(self._barred_s * 2, self._limits.barred_s_max) if again else self._limits.barred_s
        self._barred_until_s = now_s + self._barred_s
        return self._barred_s

    def is_barred(self, now_s: float) -> bool:
        return now_s < self._barred_until_s


class Strangers:
    """Routes without a link: how much each has said since the last tick, and which of them were cut."""

    def __init__(self) -> None:
        self._frames: dict[bytes, int] = {}
        self._cut: set[bytes] = set()

    def heard(self, route: bytes) -> int:
        """One more frame of this route; how many it has sent."""
        frames = self._frames[route] = self._frames.get(route, 0) + 1
        return frames

    def cut(self, route: bytes) -> None:
        """What this route has sent before its end is not worth a look."""
        self._cut.add(route)

    def is_cut(self, route: bytes) -> bool:
        return route in self._cut

    def forget(self) -> None:
        """A tick has passed."""
        self._frames.clear()
        self._cut.clear()
