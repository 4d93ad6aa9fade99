"""Ports of loopback that are free and stay so until somebody listens: the system gives them to nobody by itself."""

from __future__ import annotations

import itertools
import os
import socket

FIRST, COUNT = 16_384, 16_000  # all below 32,768, where those begin that are given to whoever asks for any
_numbers = itertools.count(os.getpid() * 997)  # processes that run side by side begin far from each other


def free_ports(count: int) -> list[int]:
    """So many, each given once by a process."""
    found: list[int] = []
    while len(found) < count:
        port = FIRST + next(_numbers) % COUNT
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found
