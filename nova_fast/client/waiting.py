"""Which servers somebody still waits for, told by reads and by events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nova_fast.client.shapes import Server
from nova_fast.model.errors import Conflict, Unavailable
from nova_fast.model.sdk import ServerEvent

_ERROR = "ERROR"
_DELETED = "DELETED"


class Wanted:
    """Servers that shall come to a status."""

    def __init__(self, ids: Iterable[str], status: str) -> None:
        self.status = status
        self.left = dict.fromkeys(ids)

    def look(self, servers: Sequence[Server]) -> None:
        """What a read of all that are left has found. Raises Conflict when one has failed."""
        found = {server.id: server for server in servers}
        if self.status == _DELETED:
            self.left = {id_: None for id_ in self.left if id_ in found and found[id_].status != _DELETED}
            return
        gone = [id_ for id_ in self.left if id_ not in found]
        if gone:
            raise Conflict(f"server {gone[0]} is gone and will not be {self.status}", code="server_gone")
        self.left = {id_: None for id_ in self.left if found[id_].status != self.status}
        if failed := [found[id_] for id_ in self.left if found[id_].status == _ERROR]:
            self.fail(failed)

    def take(self, events: Iterable[ServerEvent]) -> list[str]:
        """What events say; the ids of those that have failed."""
        failed: dict[str, None] = {}
        for event in events:
            if event.server_id not in self.left:
                continue
            if event.status == self.status:
                del self.left[event.server_id]
            elif event.status in (_ERROR, _DELETED) and self.status != _DELETED:
                failed[event.server_id] = None
        return [id_ for id_ in failed if id_ in self.left]

    def fail(self, servers: Sequence[Server]) -> None:
        """Raises Conflict that says why."""
        if not servers:
            raise Conflict(f"a server is gone and will not be {self.status}", code="server_gone")
        server = servers[0]
        why = server.fault.message if server.fault is not None else "no reason was recorded"
        raise Conflict(
            f"server {server.id} is {server.status} and will not be {self.status}: {why}",
            code="server_failed",
            details={"server_id": server.id},
        )

    def check(self, in_time: bool) -> None:
        """Raises Unavailable when it is too late."""
        if not in_time:
            raise Unavailable(
                f"{len(self.left)} servers are not {self.status} in time, among them {next(iter(self.left))}",
                code="deadline_passed",
            )
