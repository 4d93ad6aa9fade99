"""Host aggregates: hosts that an operator put together, and what is said of all of them."""

from __future__ import annotations

from nova_fast.model.base import Record

#: The key of metadata that makes an aggregate an availability zone.
ZONE_KEY = "availability_zone"


class Aggregate(Record, frozen=True):
    """Some hosts with metadata; the key ``availability_zone`` makes it a zone. A host is in one zone at most."""

    id: str  # UUID
    number: int  # what the Compute API calls its id
    name: str  # unique
    created_at_us: int
    updated_at_us: int = 0  # 0 = never
    hosts: tuple[str, ...] = ()
    metadata: dict[str, str] = {}

    @property
    def zone(self) -> str:
        """The availability zone that it is; "" when it is none."""
        return self.metadata.get(ZONE_KEY, "")
