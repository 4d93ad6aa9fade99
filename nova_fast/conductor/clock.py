"""Two times, because the one that people read can be set.

*now* is the wall clock: what is written into ``created_at`` and shown. *steady* is how time passes for the cloud: it
goes on as long as a conductor runs, whatever is done to the wall clock, and goes on where it stopped when the next one
starts, because every commit keeps it. Deadlines and "which came first" are told in steady time. So a clock that is set
a day forward fails no task, one that is set a day back keeps none waiting, and a conductor that was away for an hour
gives every task the rest of its time.
"""

from __future__ import annotations

from nova_fast.edges import Edges
from nova_fast.state.store import Store


class Clock:
    """Both times, for any thread of the conductor."""

    def __init__(self, store: Store, edges: Edges) -> None:
        self.now_us = edges.now_us
        self._monotonic_s = edges.monotonic_s
        with store.snapshot() as snapshot:
            self._start_us = snapshot.steady_us() or edges.now_us()
        self._started_s = edges.monotonic_s()

    def steady_us(self) -> int:
        """Steady time, microseconds. A new cloud's began as Unix time."""
        return self._start_us + int((self._monotonic_s() - self._started_s) * 1e6)
