"""The access log: one line for each answer, without query strings, headers or bodies, so without secrets.

PERF: the worker's daemon points it at the stream that the other logs go to, and lines then wait here for at most 0.2 s
and are made together: 2 µs a request, where a record through ``logging`` and a write of its own cost 27. A fault is
logged behind the lines before it. Without a stream the lines go through ``logging`` like any other.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import time
from typing import Any, Protocol

_access = logging.getLogger("nova_fast.api.access")
_faults = logging.getLogger("nova_fast.api")

FLUSH_AFTER_S = 0.2
#: So many lines are written without waiting (about 250 bytes each).
LINES_MAX = 300


class Stream(Protocol):
    """Takes lines and never waits or raises: ``nova_fast.logs``."""

    def write(self, text: str, /) -> int: ...


class AccessLog:
    """Lines on their way to a stream; used from one event loop only."""

    __slots__ = ("_lines", "_second", "_shown", "_stream", "_timer")

    def __init__(self) -> None:
        self._stream: Stream | None = None
        self._lines: list[tuple[float, str, tuple[object, ...]]] = []  # when, form, values
        self._timer: asyncio.TimerHandle | None = None
        self._second = -1
        self._shown = ""

    def open(self, stream: Stream) -> None:
        """From now on write to a stream, in the form of the other logs, each line within 0.2 s."""
        assert self._stream is None, "the access log is open"
        self._stream = stream
        atexit.register(self.close)

    def close(self) -> None:
        """Write what waits, and go through ``logging`` again."""
        self.flush()
        self._stream = None
        atexit.unregister(self.close)

    def add(self, form: str, *values: object) -> None:
        """Log one line, ``form % values``. PERF: made when lines are written, many together, at half of the cost."""
        if self._stream is None:
            # PERF: a record made here, because _access.info() walks the stack to find its caller, which nobody reads
            _access.handle(logging.LogRecord(_access.name, logging.INFO, __file__, 0, form, values or None, None))
            return
        self._lines.append((time.time(), form, values))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_AFTER_S, self.flush)
        elif len(self._lines) >= LINES_MAX:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines and self._stream is not None:
            self._stream.write("".join(map(self._shown_line, lines)))

    def _shown_line(self, line: tuple[float, str, tuple[object, ...]]) -> str:
        at, form, values = line
        if not 0 <= at - self._second < 1:
            self._second = int(at)
            self._shown = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(at))
        text = form % values if values else form
        return f"{self._shown}{int((at - self._second) * 1000):03d}Z INFO nova_fast.api.access {text}\n"


access_log = AccessLog()


_FORM = "face=%s request=%s method=%s path=%s status=%s ms=%.1f user=%s project=%s global=%s"


class Who(Protocol):
    """Who asked."""

    @property
    def user_id(self) -> str: ...
    @property
    def project_id(self) -> str: ...


def log_access(
    face: str, scope: dict[str, Any], done: tuple[int, float], ids: tuple[str, str], who: Who | None = None
) -> None:
    """Write the line; ``done`` are status and milliseconds, ``ids`` request id and global request id.

    The path stays percent-encoded.
    """
    if _access.isEnabledFor(logging.INFO):
        user_id, project_id = ("-", "-") if who is None else (who.user_id or "-", who.project_id or "-")
        path = str(scope["raw_path"], "latin-1")
        access_log.add(_FORM, face, ids[0], scope["method"], path, *done, user_id, project_id, ids[1] or "-")


def log_fault(text: str, *arguments: object, error: BaseException | None = None) -> None:
    """Log what nobody foresaw, with its traceback, behind the access lines before it."""
    access_log.flush()
    _faults.error(text, *arguments, exc_info=error)
