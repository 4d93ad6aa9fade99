"""External programs: by argument list, with a deadline and, where they read what users sent, under resource limits."""

from __future__ import annotations

import logging
import subprocess

import msgspec

from nova_fast.model.errors import InternalError, NotImplementedHere, Unavailable

_log = logging.getLogger(__name__)
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_PACKAGES = {"qemu-img": "qemu-utils", "mkfs.ext4": "e2fsprogs", "mkswap": "util-linux", "prlimit": "util-linux"}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a program may use that reads a file we do not trust."""

    address_space_bytes: int = 1 << 30
    cpu_s: int = 30


def run_tool(arguments: list[str], *, timeout_s: float = 60.0, limits: Limits | None = None) -> bytes:
    """Run a program and return what it wrote to its standard output; blocks.

    Raises NotImplementedHere when it is not installed, Unavailable past the deadline, InternalError when it fails (its
    words are logged, not passed on: they name paths).
    """
    assert arguments and timeout_s > 0
    command = arguments
    if limits is not None:
        bounds = [f"--as={limits.address_space_bytes}", f"--cpu={limits.cpu_s}", "--core=0"]
        command = ["prlimit", *bounds, "--", *arguments]
    program = arguments[0]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, env=_ENVIRONMENT, check=False
        )
    except FileNotFoundError as e:
        missing = command[0]
        raise NotImplementedHere(
            f"{missing} is not installed on this host.", hint=f"Install the package {_PACKAGES.get(missing, missing)}."
        ) from e
    except subprocess.TimeoutExpired as e:
        raise Unavailable(f"{program} did not end in {timeout_s:g} s on this host.") from e
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip()
        _log.warning("%s failed with %d: %s", " ".join(arguments), done.returncode, words)
        raise InternalError(f"{program} failed on this host; its log has the reason.", code="tool_failed")
    return done.stdout
