"""The power actions, each as the steps that lead to the wanted state from whatever state the guest is in."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from nova_fast.compute.drivers.libvirt.domains import Domains
from nova_fast.compute.drivers.libvirt.locks import Hold
from nova_fast.compute.drivers.libvirt.power_states import DomainState, DomainStatus
from nova_fast.model.errors import BadRequest, Conflict
from nova_fast.model.states import Action
from nova_fast.model.tasks import Guest, PowerGuest

_log = logging.getLogger(__name__)

POLL_S = 0.1
PRESS_AGAIN_S = 3.0  # a guest that is still booting does not hear the first press

#: Define the guest's domain again, from its description and the disks it has.
Remake = Callable[[Guest], Awaitable[None]]


class PowerActions:
    """Does one action on one guest; the caller holds the server."""

    def __init__(self, domains: Domains, remake: Remake) -> None:
        self._domains = domains
        self._remake = remake

    async def perform(self, message: PowerGuest, hold: Hold) -> None:
        """Bring the guest to where the action ends. Raises NotFound, Conflict; BadRequest for no power action."""
        server_id = message.guest.server_id
        match message.action:
            case Action.START | Action.RESUME:
                await self._power_on(message.guest)
            case Action.STOP:
                await self.power_off(server_id, 0 if message.hard else message.grace_s, hold)
            case Action.REBOOT if message.hard:
                await self._hard_reboot(message.guest)
            case Action.REBOOT:
                await self.power_off(server_id, message.grace_s, hold)
                await self._power_on(message.guest)
            case Action.PAUSE:
                await self._pause(await self._domains.existing(server_id))
            case Action.UNPAUSE:
                await self._unpause(await self._domains.existing(server_id))
            case Action.SUSPEND:
                await self._suspend(await self._domains.existing(server_id))
            case _:
                raise BadRequest(f"{message.action} is no power action.")

    async def _power_on(self, guest: Guest) -> None:
        status = await self._domains.status(guest.server_id)
        if status is not None and status.active:
            if status.state is DomainState.PAUSED:
                await self._domains.unpause(guest.server_id)
            return
        if status is None or not status.saved:  # saved memory only fits the definition it was saved with
            await self._remake(guest)
        await self._domains.start(guest.server_id)

    async def power_off(self, server_id: str, grace_s: float, hold: Hold) -> None:
        """Ask the guest to shut down, and power it off when it has not after ``grace_s`` seconds."""
        status = await self._domains.status(server_id)
        if status is None or not status.active:
            return
        if status.state in (DomainState.RUNNING, DomainState.BLOCKED):
            await self._ask_to_shut_down(server_id, grace_s, hold)
        status = await self._domains.status(server_id)
        if status is not None and status.active:
            _log.info("server %s did not shut down when asked; powering it off", server_id)
            await self._domains.kill(server_id)

    async def _ask_to_shut_down(self, server_id: str, grace_s: float, hold: Hold) -> None:
        """Press the power button, again if need be, until the guest is off, time is up, or somebody is in a hurry."""
        deadline = time.monotonic() + grace_s
        press_at = 0.0
        while time.monotonic() < deadline and not hold.hurry.is_set():
            status = await self._domains.status(server_id)
            if status is None or not status.active:
                return
            if time.monotonic() >= press_at and status.state is not DomainState.SHUTDOWN:
                try:
                    await self._domains.press_power_button(server_id)
                except Conflict:  # it went off between the look and the press
                    continue
                press_at = time.monotonic() + PRESS_AGAIN_S
            await asyncio.sleep(POLL_S)

    async def _hard_reboot(self, guest: Guest) -> None:
        status = await self._domains.status(guest.server_id)
        if status is not None and status.active:
            await self._domains.kill(guest.server_id)
        if status is not None and status.saved:
            await self._domains.discard_save(guest.server_id)
        await self._remake(guest)
        await self._domains.start(guest.server_id)

    async def _pause(self, status: DomainStatus) -> None:
        if status.state is DomainState.PAUSED:
            return
        _must_run(status, "paused")
        await self._domains.pause(status.server_id)

    async def _unpause(self, status: DomainStatus) -> None:
        if status.state in (DomainState.RUNNING, DomainState.BLOCKED):
            return
        _must_run(status, "unpaused")
        await self._domains.unpause(status.server_id)

    async def _suspend(self, status: DomainStatus) -> None:
        if status.saved and not status.active:
            return
        _must_run(status, "suspended")
        await self._domains.save(status.server_id)


def _must_run(status: DomainStatus, done: str) -> None:
    if not status.active:
        raise Conflict(f"The guest is off and cannot be {done}.", hint="Start it first.")
