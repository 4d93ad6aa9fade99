"""Kernel settings, by their files."""

from __future__ import annotations

import subprocess
from pathlib import Path

from nova_fast.model.errors import Unavailable

_ROOT = Path("/proc/sys")
_MODPROBE_TIMEOUT_S = 10.0

IP_FORWARD = "net/ipv4/ip_forward"
BRIDGE_FILTERS = ("net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables")


def read(name: str) -> str:
    """The value of a setting, in the namespace of this thread."""
    return (_ROOT / name).read_text().strip()


def ensure(name: str, value: str) -> str | None:
    """Set a setting; the old value where that changed it, else None."""
    old = read(name)
    if old == value:
        return None
    (_ROOT / name).write_text(value)
    return old


def ensure_bridge_filter() -> dict[str, str]:
    """Make inet tables see bridged packets; what was changed with its old value. Raises Unavailable."""
    if not (_ROOT / BRIDGE_FILTERS[0]).exists():
        try:
            subprocess.run(["modprobe", "br_netfilter"], capture_output=True, timeout=_MODPROBE_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"the kernel module br_netfilter cannot be loaded: {error}") from error
    changed: dict[str, str] = {}
    try:
        for name in BRIDGE_FILTERS:
            old = ensure(name, "1")
            if old is not None:
                changed[name] = old
    except FileNotFoundError:
        raise Unavailable(
            "the kernel does not pass bridged packets to nftables", hint="load the kernel module br_netfilter"
        ) from None
    return changed
