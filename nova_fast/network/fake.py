"""A backend that touches nothing: for scale tests and for machines without the privileges."""

from __future__ import annotations

from nova_fast.model.tasks import ApplyNetworks, NetworksApplied


class FakeBackend:
    """Remembers what was asked last and says that it is done."""

    def __init__(self) -> None:
        self.last: ApplyNetworks | None = None
        self.applied = 0

    async def start(self) -> None:
        """Nothing to take over."""

    async def apply(self, message: ApplyNetworks) -> NetworksApplied:
        """Answer at once that everything is in place."""
        self.last = message
        self.applied += 1
        return NetworksApplied(host=message.host, generation=message.generation)

    async def close(self) -> None:
        """Nothing to leave running."""

    async def teardown(self) -> None:
        """Forget what was asked."""
        self.last = None
