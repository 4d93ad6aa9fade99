"""``wrk`` for GETs: somebody else's load generator, in C, so that our own is not the only witness.

It is a closed loop and knows nothing of intended times; what it is good for is the highest rate. Debian has it as
``wrk``; without it these measures are passed over.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

CONNECTIONS = 32
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class Found(NamedTuple):
    """What wrk says."""

    rate: float
    p50_ms: float
    p99_ms: float


def missing() -> str:
    """Why wrk cannot be used; "" when it can."""
    return "" if shutil.which("wrk") else "wrk is not installed (apt-get install wrk)"


def run(port: int, seconds: float, headers: dict[str, str], paths: list[str]) -> Found:
    """One thread, so many connections, the paths in turn."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        listed = ", ".join(f'"{path}"' for path in paths)
        script.write(
            f"local paths, at = {{{listed}}}, 0\n"
            "request = function() at = at % #paths + 1 return wrk.format('GET', paths[at]) end\n"
        )
        script.flush()
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "--latency", "-s", script.name]
        for name, value in headers.items():
            command += ["-H", f"{name}: {value}"]
        done = subprocess.run(
            [*command, f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True, timeout=seconds + 60,
            cwd=Path(script.name).parent,
        )  # fmt: skip
    return understand(done.stdout)


def understand(said: str) -> Found:
    """The figures in wrk's words. Raises AssertionError when answers were errors."""
    assert "Non-2xx" not in said and "Socket errors" not in said, said
    rate = re.search(r"Requests/sec:\s*([\d.]+)", said)
    assert rate is not None, said
    return Found(float(rate[1]), _latency(said, "50%"), _latency(said, "99%"))


def _latency(said: str, percent: str) -> float:
    found = re.search(rf"^\s*{percent}\s+([\d.]+)(us|ms|s|m)\s*$", said, re.MULTILINE)
    assert found is not None, said
    return float(found[1]) * _UNITS[found[2]]
