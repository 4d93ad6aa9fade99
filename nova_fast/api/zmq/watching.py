"""Answering a Watch: who asks is looked at again at each read, so a token that ends, ends what it watches."""

from __future__ import annotations

import asyncio
from collections import Counter

from nova_fast.api.framework.auth import Authenticator
from nova_fast.api.framework.policy import POLICIES
from nova_fast.api.zmq.journal import Journal
from nova_fast.model.errors import Forbidden, Unavailable
from nova_fast.model.identity import Caller
from nova_fast.model.sdk import WATCH_WAIT_S_MAX, Seen, Watch
from nova_fast.queries.reading import Reader, Snapshots

#: Of one client at once.
WATCHES_MAX = 16
#: The policy of reading servers.
_may_watch = POLICIES["reader"]


class Watching:
    """All watches of a worker."""

    def __init__(self, store: Snapshots) -> None:
        self._store = store
        self._journal = Journal(store)
        self._authenticator = Authenticator()
        self._loop = asyncio.get_running_loop()
        self._running: Counter[str] = Counter()

    async def answer(self, peer: str, message: Watch, token: bytes) -> Seen:
        """What happened; waits for it. Raises Unauthorized, Forbidden, and Unavailable for too many at once."""
        if self._running[peer] >= WATCHES_MAX:
            raise Unavailable(f"a client has more than {WATCHES_MAX} watches", code="too_many_watches")
        self._running[peer] += 1
        try:
            return await self._wait(message, token)
        finally:
            self._running[peer] -= 1
            if not self._running[peer]:
                del self._running[peer]

    def close(self) -> None:
        self._journal.close()

    async def _wait(self, message: Watch, token: bytes) -> Seen:
        # SAFETY: said by the client, so it may be no number at all, which is not above 0
        wait_s = min(message.wait_s, WATCH_WAIT_S_MAX) if message.wait_s > 0 else 0.0
        end_s = self._loop.time() + wait_s
        after = message.after
        while True:
            with self._store.snapshot() as snapshot:
                seen = self._journal.read(snapshot, self._caller(snapshot, token), after, max(1, message.limit))
            left_s = end_s - self._loop.time()
            if seen.events or seen.gap or message.after < 0:
                return seen
            if seen.position > after:  # others' events: pass them over, there may be more behind them
                after = seen.position
                await asyncio.sleep(0)
            elif left_s <= 0:
                return seen
            else:
                await self._journal.changed(left_s)

    def _caller(self, snapshot: Reader, token: bytes) -> Caller:
        grant = self._authenticator.verify(snapshot, token).grant
        caller = Caller(
            user_id=grant.user_id,
            project_id=grant.project_id,
            roles=grant.roles,
            domain_id=grant.domain_id,
            system=grant.system,
        )
        if _may_watch is None or not _may_watch(caller):
            raise Forbidden("You are not authorized to perform the requested action.", code="policy")
        return caller
