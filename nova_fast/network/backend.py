"""What a network backend is: something that makes a host look as an ApplyNetworks message says.

The work is level-triggered. A backend keeps no promise about steps, only about the end: after ``apply`` has answered,
the host has what the message names, and nothing that an earlier message named and this one does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import msgspec

from nova_fast.model.tasks import ApplyNetworks, MetadataAnswer, MetadataRequest, NetworksApplied

AskMetadata = Callable[[MetadataRequest], Awaitable[MetadataAnswer]]


class BackendSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend must know that is not in a message."""

    cloud_id: str  # 8 hex digits: tells the things of two clouds on one machine apart
    run_dir: Path  # where the record of what was made is kept
    dhcp_dir: Path  # files of dnsmasq; an unprivileged user must be able to reach it
    external_bridge: str = "nfext"
    external_cidr: str = "172.30.0.0/24"
    dns_nameservers: tuple[str, ...] = ()


class Backend(Protocol):
    """A way to make networks on this host."""

    async def start(self) -> None:
        """Take over what an earlier run left, and get ready. Raises NovaFastError when the host cannot do it at all."""

    async def apply(self, message: ApplyNetworks) -> NetworksApplied:
        """Make the host look exactly as the message says; one network that fails does not stop the others."""

    async def close(self) -> None:
        """Stop serving and leave everything running: guests notice nothing but an absent metadata server."""

    async def teardown(self) -> None:
        """Remove everything this cloud made on this host, also what an earlier run made."""


def cloud_id_of(state_dir: Path) -> str:
    """Eight hex digits that stand for the cloud that keeps its state in ``state_dir``."""
    return hashlib.blake2s(str(state_dir.resolve()).encode(), digest_size=4).hexdigest()


def settings_for(
    state_dir: Path, external_bridge: str, external_cidr: str, dns_nameservers: list[str]
) -> BackendSettings:
    """The settings of the cloud that keeps its state in ``state_dir``."""
    cloud_id = cloud_id_of(state_dir)
    return BackendSettings(
        cloud_id=cloud_id,
        run_dir=state_dir / "run" / "network",
        dhcp_dir=Path("/run/nova-fast") / cloud_id / "dhcp",
        external_bridge=external_bridge,
        external_cidr=external_cidr,
        dns_nameservers=tuple(dns_nameservers),
    )
