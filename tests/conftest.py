"""What all tests share: tests that this machine cannot run say why."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from functools import cache

import pytest
from hypothesis import HealthCheck, settings

from tests.lengths import TORTURE


@cache
def _lacks_root() -> str:
    return "" if os.geteuid() == 0 else "needs root"


@cache
def _lacks_netadmin() -> str:
    """Try, because capabilities and seccomp filters cannot be read off."""
    for tool in ("ip", "nft", "dnsmasq"):
        if shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
            return f"needs {tool}"
    name = f"nftest-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, timeout=30, check=False)
    if made.returncode != 0:
        return f"cannot make a network namespace: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", name], timeout=30, check=True)
    return ""


@cache
def _lacks_qemu() -> str:
    wanted = ("qemu-system-x86_64", "qemu-img", "libvirtd", "virtlogd")
    lacking = [tool for tool in wanted if shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None]
    return f"needs {', '.join(lacking)}" if lacking else _lacks_root()


def pytest_configure() -> None:
    """Whoever ends a run (``timeout``, a CI that stops) ends the clouds of its tests with it: fixtures still finish."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


_PROBES = {"needs_root": _lacks_root, "needs_netadmin": _lacks_netadmin, "needs_qemu": _lacks_qemu}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, probe in _PROBES.items():
        if item.get_closest_marker(marker) is not None and (reason := probe()):
            pytest.skip(reason)


# A shared machine is slow at times; a test that hangs is caught by its own limits. ``make test`` repeats the same
# examples, so that it is red for what changed and for nothing else; ``make torture`` looks for new ones.
settings.register_profile(
    "shared",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=not TORTURE,
)
settings.load_profile("shared")
