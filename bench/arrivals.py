"""When requests are meant to be sent: what makes a load open.

In a closed loop a slow answer holds the next request back, so the server that stalls is asked less and its stall is
counted once ("coordinated omission"). Here the times are fixed before anything is sent, evenly or at random as
independent users come (Poisson), and latency runs from them whether the sender was free or not.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import time
from collections.abc import Callable
from typing import NamedTuple

EVEN, POISSON = "even", "poisson"
LEAD_S = 0.05  # between the start and the first arrival


def offsets(rate: float, seconds: float, arrivals: str, rng: random.Random) -> list[float]:
    """Seconds from the start at which requests are meant to be sent, in order."""
    assert rate > 0 and seconds > 0
    if arrivals == EVEN:
        return [number / rate for number in range(max(1, int(rate * seconds)))]
    assert arrivals == POISSON, arrivals
    found, at = [], rng.expovariate(rate)
    while at < seconds:
        found.append(at)
        at += rng.expovariate(rate)
    return found or [0.0]


class _TimeSpec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class _TimerSpec(ctypes.Structure):
    _fields_ = [("interval", _TimeSpec), ("value", _TimeSpec)]


_libc = ctypes.CDLL(None, use_errno=True)
_TFD_NONBLOCK, _TFD_CLOEXEC, _TFD_TIMER_ABSTIME = os.O_NONBLOCK, os.O_CLOEXEC, 1


class Alarm:
    """A timer of the kernel on the event loop, exact to some ten microseconds.

    Timers of event loops are exact to a millisecond, several times what a read takes here. Times are those of
    ``time.monotonic()``.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._fd = _libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._wake = wake
        self._spec = _TimerSpec()
        asyncio.get_running_loop().add_reader(self._fd, self._on_readable)

    def set(self, at_s: float) -> None:
        """Wake once at this time; at once when it has passed."""
        nanoseconds = max(1, int(at_s * 1e9))
        self._spec.value.seconds, self._spec.value.nanoseconds = divmod(nanoseconds, 1_000_000_000)
        if _libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(self._spec), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    def _on_readable(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # set anew meanwhile
        self._wake()


class Sent(NamedTuple):
    """What became of one arrival, in seconds."""

    latency_s: float  # from the intended time to the last byte of the last answer
    ok: bool


class Pacer:
    """Launches at the intended times, and keeps the book of what came back.

    ``launch()`` is called once for each arrival with the intended time; whoever is launched says :meth:`finished`.
    Arrivals before ``warm_up_s`` are sent and not counted.
    """

    def __init__(self, times: list[float], warm_up_s: float, launch: Callable[[float], None]) -> None:
        self._times = times
        self._warm_up_s = warm_up_s
        self._launch = launch
        self._next = 0
        self._open = 0
        self._done = asyncio.Event()
        self._start_s = 0.0
        self.latencies_s: list[float] = []
        self.lags_s: list[float] = []  # how late the generator itself was
        self.errors = 0

    async def run(self, patience_s: float) -> bool:
        """Send everything and wait for the answers; False when some did not come within ``patience_s``."""
        alarm = Alarm(lambda: self._due(alarm))
        self._start_s = time.monotonic() + LEAD_S
        alarm.set(self._start_s + self._times[0])
        try:
            async with asyncio.timeout(self._times[-1] + 1 + patience_s):
                await self._done.wait()
        except TimeoutError:
            return False
        finally:
            alarm.close()
        return True

    def finished(self, intended_s: float, ok: bool) -> None:
        """An arrival has been served whole, or has failed."""
        self._open -= 1
        if intended_s >= self._start_s + self._warm_up_s:
            self.latencies_s.append(time.monotonic() - intended_s)
            self.errors += not ok
        if not self._open and self._next == len(self._times):
            self._done.set()

    @property
    def counted(self) -> int:
        """Arrivals behind the warm-up."""
        return sum(at >= self._warm_up_s for at in self._times)

    @property
    def unanswered(self) -> int:
        """Arrivals that have no answer, or were not sent at all."""
        return self._open + len(self._times) - self._next

    def _due(self, alarm: Alarm) -> None:
        times, count = self._times, len(self._times)
        while self._next < count:
            intended_s = self._start_s + times[self._next]
            now_s = time.monotonic()
            if intended_s > now_s:
                alarm.set(intended_s)
                return
            if intended_s >= self._start_s + self._warm_up_s:
                self.lags_s.append(now_s - intended_s)
            self._next += 1
            self._open += 1
            self._launch(intended_s)
