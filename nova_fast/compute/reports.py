"""What a compute daemon says of its guests by itself: nothing is lost, and nothing is heard out of order.

A change is said until the conductor has heard it, one at a time for each guest, the newest in place of older ones.
Which guests belong here is asked after every new connection, after everything that may have left something behind (a
guest that could not be made or removed), and now and then; an attempt that fails is made again until one succeeds.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import msgspec

from nova_fast.compute.drivers.base import Driver
from nova_fast.model.base import Message
from nova_fast.model.errors import NovaFastError
from nova_fast.model.states import PowerState
from nova_fast.model.tasks import SEQUENCE_BITS, GuestChanged, GuestInventory, GuestState, WantedGuests

log = logging.getLogger(__name__)

AGAIN_S = 1.0  # after what failed; twice as late each time
AGAIN_S_MAX = 30.0
#: And up to half as much later, each host at its own time. What a hypervisor does after its asker died is found then.
COMPARE_EVERY_S = 120

#: Asks the conductor. Raises NovaFastError.
Ask = Callable[[Message], Awaitable[Message]]


class GuestReports:
    """Belongs to one host's daemon. ``process`` is a number that no other process of this host's daemon has."""

    def __init__(self, host: str, driver: Driver, ask: Ask, process: int) -> None:
        self._host = host
        self._driver = driver
        self._ask = ask
        self._numbers = itertools.count((process << SEQUENCE_BITS) + 1)
        self._unsaid: dict[str, GuestState] = {}  # server id → its state, which the conductor has not heard
        self._making: Counter[str] = Counter()
        self._compare_now = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to compare when asked to, and now and then."""
        self._spawn(self._keep_comparing())

    async def close(self) -> None:
        """Say nothing any more; the next process compares everything."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def numbered(self, state: GuestState) -> GuestState:
        """A state that has just been read, with its place among all that this daemon says."""
        return msgspec.structs.replace(state, sequence=next(self._numbers))

    @contextlib.contextmanager
    def making(self, server_id: str) -> Iterator[None]:
        """While a guest is made it counts as there, so that one which has become unwanted meanwhile is removed."""
        self._making[server_id] += 1
        try:
            yield
        finally:
            self._making[server_id] -= 1
            if not self._making[server_id]:
                del self._making[server_id]

    # ------------------------------------------------------------------ changes
    def changed(self, state: GuestState) -> None:
        """A guest changed by itself."""
        log.info("guest %s is now %s", state.server_id, state.power_state.name)
        waiting = state.server_id in self._unsaid
        self._unsaid[state.server_id] = self.numbered(state)
        if not waiting:
            self._spawn(self._say(state.server_id))

    async def _say(self, server_id: str) -> None:
        """Say the newest state until it has been heard."""
        said: GuestState | None = None
        pause_s = AGAIN_S
        while (state := self._unsaid[server_id]) is not said:
            message = GuestChanged(
                host=self._host, server_id=server_id, power_state=state.power_state, sequence=state.sequence
            )
            try:
                await self._ask(message)
                said, pause_s = state, AGAIN_S
            except NovaFastError as error:
                log.warning("the conductor has not heard of a change of %s yet: %s", server_id, error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, AGAIN_S_MAX)
        del self._unsaid[server_id]

    # ------------------------------------------------------------------ the whole
    def compare(self) -> None:
        """See to it that the guests that are there are compared with those that belong here."""
        self._compare_now.set()

    async def _keep_comparing(self) -> None:
        pause_s = AGAIN_S
        every_s = COMPARE_EVERY_S + zlib.crc32(self._host.encode()) % (COMPARE_EVERY_S // 2)
        wait_s: float = every_s
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._compare_now.wait(), wait_s)
            self._compare_now.clear()
            if await self._compare():
                pause_s, wait_s = AGAIN_S, every_s
            else:
                wait_s, pause_s = pause_s, min(2 * pause_s, AGAIN_S_MAX)

    async def _compare(self) -> bool:
        """Say which guests there are and destroy those that belong here no more; whether all of that was done."""
        sequence = next(self._numbers)  # before anybody looks: what is heard meanwhile is newer
        try:
            guests = {state.server_id: state for state in await self._driver.inventory()}
            for server_id in self._making:
                guests.setdefault(server_id, GuestState(server_id=server_id, power_state=PowerState.NOSTATE))
            inventory = GuestInventory(host=self._host, guests=tuple(guests.values()), sequence=sequence)
            answer = await self._ask(inventory)
        except NovaFastError as error:
            log.warning("the guests of this host could not be compared: %s", error)
            return False
        assert isinstance(answer, WantedGuests)
        unwanted = guests.keys() - set(answer.server_ids)
        log.info("host %s: %d guests compared, %d do not belong here", self._host, len(guests), len(unwanted))
        return all([await self._remove(server_id) for server_id in sorted(unwanted)])

    async def _remove(self, server_id: str) -> bool:
        log.warning("guest %s belongs to no server of this host and is destroyed", server_id)
        try:
            await self._driver.destroy(server_id, "")
        except NovaFastError as error:
            log.error("guest %s could not be destroyed: %s", server_id, error)
            return False
        return True

    def _spawn(self, coroutine: Awaitable[None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
