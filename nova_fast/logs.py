"""Where the lines of a daemon's log go: standard error, without waiting for its disk.

A write to a file waits while the disk is busy, while the file is cut, or while its journal is written, now and then on
an idle machine too (``bench api`` felt it as the p99 of reads at half load: 67 ms, and 1.4 without it, 2026-11-27), and
for ever on a disk that hangs. An event loop must not wait for it, so one thread writes what everybody has to say.
"""

from __future__ import annotations

import atexit
import os
import threading
import time

#: What waits for the disk is at most so long; further lines are counted and told, not kept.
WAITING_CHARS_MAX = 8 << 20
#: Lines are written together, this long after the first of them. PERF: the thread would wake for each otherwise. Who is
#: killed loses those of so long.
GATHER_S = 0.005
CLOSE_S = 2.0


class LogStream:
    """A text stream for lines that never waits and never raises; may be used from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._changed = threading.Condition()
        self._waiting: list[str] = []
        self._chars = 0
        self._lost = 0  # lines, since the last that was written
        self._why = ""
        self._writer: threading.Thread | None = None
        self._closing = False
        atexit.register(self.close)

    def write(self, text: str) -> int:
        """Take lines; they are on their way when this returns, and on the disk soon after."""
        with self._changed:
            if self._chars + len(text) > WAITING_CHARS_MAX:
                self._lose(text.count("\n"), "the disk does not take them")
            else:
                self._waiting.append(text)
                self._chars += len(text)
            if self._closing:
                self._write_all()
            elif self._writer is None:
                self._writer = threading.Thread(target=self._run, name="log", daemon=True)
                self._writer.start()
            elif len(self._waiting) == 1:
                self._changed.notify()
        return len(text)

    def flush(self) -> None:
        """Nothing: lines are written by themselves."""

    def close(self) -> None:
        """Write what waits, as far as the disk takes it within two seconds; from now on writes wait for it."""
        with self._changed:
            self._closing = True
            self._changed.notify()
            writer = self._writer
        if writer is not None:
            writer.join(CLOSE_S)

    # ------------------------------------------------------------------ the thread
    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                closing = self._closing
            if not closing:
                time.sleep(GATHER_S)
            self._write_all()
            if closing:
                return

    def _write_all(self) -> None:
        with self._changed:
            lines, self._waiting, self._chars = self._waiting, [], 0
            lost, why, self._lost = self._lost, self._why, 0
        rest = memoryview("".join(lines).encode("utf-8", "backslashreplace"))
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            if lost:
                at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
                os.write(
                    self._descriptor, f"{at} WARNING {__name__} {lost} lines of the log are lost: {why}\n".encode()
                )
        except OSError as error:  # a full disk must not end the service
            self._lose(lost + bytes(rest).count(b"\n"), str(error))

    def _lose(self, lines: int, why: str) -> None:
        with self._changed:
            self._lost += lines
            self._why = why


#: Standard error of this process.
stderr = LogStream(2)
