"""Network namespaces: making, removing and visiting them.

A namespace belongs to a thread. A visit switches the calling thread over and back, so visits happen only on the
backend's own worker thread, never on the event loop's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from nova_fast.model.errors import InternalError

NAMESPACES_DIR = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_TIMEOUT_S = 10.0


def exists(name: str) -> bool:
    """Whether the name stands for a live namespace, and not only for a file left behind."""
    try:
        return os.stat(NAMESPACES_DIR / name).st_dev != os.stat(NAMESPACES_DIR).st_dev
    except FileNotFoundError:
        return False


def inode(name: str) -> int:
    """The number that tells one namespace from another."""
    return os.stat(NAMESPACES_DIR / name).st_ino


def names() -> list[str]:
    """All named namespaces."""
    try:
        return sorted(entry.name for entry in os.scandir(NAMESPACES_DIR))
    except FileNotFoundError:
        return []


def ensure(name: str) -> bool:
    """Make the namespace if it is not there; true when it was made. Raises InternalError."""
    if exists(name):
        return False
    with contextlib.suppress(FileNotFoundError):
        os.unlink(NAMESPACES_DIR / name)
    _ip("netns", "add", name)
    return True


def remove(name: str) -> None:
    """Remove the namespace and with it its links; nothing happens when it is not there. Raises InternalError."""
    if exists(name):
        _ip("netns", "del", name)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(NAMESPACES_DIR / name)


@contextlib.contextmanager
def visit(name: str) -> Iterator[None]:
    """Be in the namespace for a while, this thread only. Sockets and processes made meanwhile stay there."""
    assert threading.current_thread() is not threading.main_thread()
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(NAMESPACES_DIR / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _enter(home)
    finally:
        os.close(home)


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode:
        raise InternalError(f"ip {' '.join(words)} failed: {done.stderr.strip()}")
