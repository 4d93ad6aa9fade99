"""Guessing slowed down: after ten failed logins for one name within a minute, a minute of refusals.

Kept in the memory of a worker, bounded; a refused login costs and says the same as a wrong password: it tells nothing.
"""

from __future__ import annotations

from collections.abc import Callable

WINDOW_S = 60.0
FAILURES_MAX = 10
NAMES_MAX = 10_000


class Throttle:
    """Failed logins by name; times are seconds of a monotonic clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: dict[str, list[float]] = {}

    def refuses(self, name: str) -> bool:
        """Whether this name has failed too often lately."""
        return len(self._recent(name)) >= FAILURES_MAX

    def failed(self, name: str) -> None:
        """Note a failed login."""
        recent = self._recent(name)
        recent.append(self._clock())
        self._failures.pop(name, None)  # to the end: the oldest names are the first to be forgotten
        self._failures[name] = recent[-FAILURES_MAX:]
        while len(self._failures) > NAMES_MAX:
            del self._failures[next(iter(self._failures))]

    def succeeded(self, name: str) -> None:
        """Forget the failures of a name."""
        self._failures.pop(name, None)

    def _recent(self, name: str) -> list[float]:
        since = self._clock() - WINDOW_S
        return [at for at in self._failures.get(name, ()) if at > since]
