"""What our API is compared with, each in a process of its own: bare Falcon, and a bare protocol on ``httptools``."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from bench.machine import ROOT
from bench.ports import free_ports

#: A module and its options.
FALCON, FALCON_ON_UVICORN = ("bench.bare_falcon",), ("bench.bare_falcon", "uvicorn")
PROTOCOL = ("bench.bare_protocol",)


class Server(NamedTuple):
    """Somebody who is loaded."""

    port: int
    pid: int


@contextlib.contextmanager
def running(peer: tuple[str, ...], body: bytes) -> Iterator[Server]:
    """A peer that answers every GET of a server with this JSON."""
    [port] = free_ports(1)
    module, *options = peer
    command = [sys.executable, "-m", module, str(port), *options]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)
    try:
        assert process.stdin is not None
        process.stdin.write(body)
        process.stdin.close()
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert time.monotonic() < end and process.poll() is None, f"{module} did not start"
            time.sleep(0.05)
        yield Server(port, process.pid)
    finally:
        process.kill()
        process.wait()
