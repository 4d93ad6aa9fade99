"""What this cloud made on this host, kept in one JSON file so that the next daemon, or a clean-up, finds it.

Written before a thing is made and after it is gone, each time as a whole new file. The kernel's own marks (aliases of
links, names of tables) are the second source: what carries this cloud's mark and is not wanted goes, file or no file.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from nova_fast.files import write_atomically
from nova_fast.network.linux.policy import Policy

RECORD_FILE = "made.json"


class MadeNetwork(msgspec.Struct, kw_only=True):
    """What was made for one network."""

    bridge: str
    namespace: str
    links: list[str]
    router_address: str
    router_cidr: str


class Made(msgspec.Struct, kw_only=True):
    """Everything that was made."""

    networks: dict[str, MadeNetwork] = {}
    sysctls: dict[str, str] = {}  # what we changed → what it was
    policy: Policy = Policy()


def load(run_dir: Path) -> Made:
    """The record of an earlier run; an empty one where there is none or it cannot be read."""
    try:
        return msgspec.json.decode((run_dir / RECORD_FILE).read_bytes(), type=Made)
    except FileNotFoundError:
        return Made()
    except msgspec.DecodeError:
        # The file is replaced as a whole, so this is damage from outside; the kernel's marks still tell what is ours.
        return Made()


def save(run_dir: Path, made: Made) -> None:
    """Replace the record."""
    run_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(run_dir / RECORD_FILE, msgspec.json.encode(made))


def remove(run_dir: Path) -> None:
    """Forget everything."""
    (run_dir / RECORD_FILE).unlink(missing_ok=True)
