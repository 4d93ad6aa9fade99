"""What the conductor tells everybody after a commit: an ordered stream without gaps.

Each event carries the generation at which it was committed; a watcher that was away asks from where it stopped.
"""

from __future__ import annotations

from nova_fast.model.aggregates import Aggregate
from nova_fast.model.base import Message
from nova_fast.model.hosts import Claim, Host


class HostChanged(Message, frozen=True):
    """A host appeared, reported other resources, went up or down, or its operator changed it."""

    host: Host


class HostRemoved(Message, frozen=True):
    host: str


class Claimed(Message, frozen=True):
    """A server took resources of a host."""

    server_id: str
    host: str
    claim: Claim
    group_id: str = ""  # the server group of the server
    image_properties: dict[str, str] = {}  # of the image it was made from


class Released(Message, frozen=True):
    """A server gave them back; with no host, it gave up what was chosen for it and never committed."""

    server_id: str
    host: str
    claim: Claim
    image_properties: dict[str, str] = {}  # as when it took them


class AggregateChanged(Message, frozen=True):
    """An aggregate appeared, or its name, hosts or metadata changed."""

    aggregate: Aggregate


class AggregateRemoved(Message, frozen=True):
    aggregate_id: str


class ServerChanged(Message, frozen=True):
    """A server's record changed (``status`` is the API's; DELETED when it is gone)."""

    server_id: str
    project_id: str
    status: str
    task_state: str | None
    host: str


Event = HostChanged | HostRemoved | Claimed | Released | AggregateChanged | AggregateRemoved | ServerChanged
