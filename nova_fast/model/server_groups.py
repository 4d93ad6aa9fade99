"""Server groups: servers whose owner wants them on one host, or on different ones."""

from __future__ import annotations

from nova_fast.model.base import Record


class ServerGroup(Record, frozen=True):
    """A group and its rule. Its members are the servers that name it, so no list can disagree with them."""

    id: str  # UUID
    project_id: str
    user_id: str
    name: str
    policy: str  # affinity, anti-affinity, soft-affinity, soft-anti-affinity
    created_at_us: int
    max_servers_per_host: int = 1  # of anti-affinity
    has_rules: bool = False  # its maker said how many, so the API shows it
