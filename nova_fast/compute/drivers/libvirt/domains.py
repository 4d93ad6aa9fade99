"""The domains of this cloud on this host, and nobody else's.

Ours are the ones that carry our metadata with our instances folder. A server whose UUID belongs to a foreign domain is
never touched.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from nova_fast.compute.drivers.libvirt.binding import NAME_TAKEN, Connection
from nova_fast.compute.drivers.libvirt.domain_xml import Disk, DomainSettings, domain_xml
from nova_fast.compute.drivers.libvirt.power_states import DomainStatus
from nova_fast.compute.drivers.libvirt.session import Session
from nova_fast.model.errors import Conflict, NotFound, Unavailable
from nova_fast.model.tasks import Guest

_log = logging.getLogger(__name__)

START_TIMEOUT_S = 120.0
HALF_STARTED_TIMEOUT_S = 30.0
POLL_S = 0.1
SAVE_TIMEOUT_S = 600.0  # the guest's whole memory goes to disk


class Domains:
    """Async access to our domains; every call has its own deadline."""

    def __init__(self, session: Session, settings: DomainSettings) -> None:
        self._session = session
        self._settings = settings

    async def all(self) -> list[DomainStatus]:
        """Every domain of ours."""
        statuses = await self._session.call(Connection.statuses)
        return [status for status in statuses if status.instances_dir == self._settings.instances_dir]

    async def status(self, server_id: str) -> DomainStatus | None:
        """Our domain for a server, or None. Raises Conflict when somebody else's domain has its UUID.

        Only who starts it holds the server; so one that is found half started is one whose start libvirtd did not live
        to finish. It ends such a domain as soon as it has looked at it, and until then is waited for.
        """
        loop = asyncio.get_running_loop()
        late_s = loop.time() + HALF_STARTED_TIMEOUT_S
        while True:
            status = await self._session.call(lambda connection: connection.status(server_id))
            if status is None:
                return None
            if status.instances_dir != self._settings.instances_dir:
                raise Conflict(
                    f"A domain that is not ours has the UUID {server_id}.", hint=f"Look at virsh dominfo {server_id}."
                )
            if not status.starting:
                return status
            if loop.time() > late_s:
                raise Unavailable(f"The guest of {server_id} has been starting for {HALF_STARTED_TIMEOUT_S:g} s.")
            await asyncio.sleep(POLL_S)

    async def existing(self, server_id: str) -> DomainStatus:
        """Our domain for a server. Raises NotFound."""
        status = await self.status(server_id)
        if status is None:
            raise NotFound(
                f"There is no guest for server {server_id} on this host.", hint="A hard reboot makes it again."
            )
        return status

    async def define(self, guest: Guest, disks: tuple[Disk, ...], console_log: str) -> None:
        """Define the guest's domain or replace its definition.

        Another cloud or a person may have a domain of that name in the same libvirt: ours then gets the server's id
        behind its name, and keeps it. Nothing but people depends on the name.
        """
        known = await self.status(guest.server_id)
        if known is not None:  # libvirt renames nothing
            guest = msgspec.structs.replace(guest, domain_name=known.name)
        xml = domain_xml(guest, disks, console_log, self._settings)
        try:
            await self._session.call(lambda connection: connection.define(xml))
        except Conflict as e:
            if e.code != NAME_TAKEN:
                raise
            name = f"{guest.domain_name[:50]}-{guest.server_id[:8]}"
            _log.warning(
                "the domain name %s is taken; server %s is called %s", guest.domain_name, guest.server_id, name
            )
            renamed = domain_xml(msgspec.structs.replace(guest, domain_name=name), disks, console_log, self._settings)
            await self._session.call(lambda connection: connection.define(renamed))

    async def start(self, server_id: str) -> None:
        """Start a defined domain; from its saved memory if it has been suspended."""
        await self._session.call(lambda connection: connection.start(server_id), START_TIMEOUT_S)

    async def press_power_button(self, server_id: str) -> None:
        """Ask the guest to shut down."""
        await self._session.call(lambda connection: connection.press_power_button(server_id))

    async def kill(self, server_id: str) -> None:
        """Power off at once."""
        await self._session.call(lambda connection: connection.kill(server_id))

    async def pause(self, server_id: str) -> None:
        """Stop the virtual processors."""
        await self._session.call(lambda connection: connection.suspend(server_id))

    async def unpause(self, server_id: str) -> None:
        """Let them go on."""
        await self._session.call(lambda connection: connection.resume(server_id))

    async def save(self, server_id: str) -> None:
        """Write the memory to disk and power off."""
        await self._session.call(lambda connection: connection.managed_save(server_id), SAVE_TIMEOUT_S)

    async def discard_save(self, server_id: str) -> None:
        """Forget the saved memory."""
        await self._session.call(lambda connection: connection.discard_save(server_id))

    async def remove(self, server_id: str) -> None:
        """Power off and forget a domain of ours; none is fine. Raises Conflict for a foreign one."""
        status = await self.status(server_id)
        if status is None:
            return
        if status.active:
            await self.kill(server_id)
        await self._session.call(lambda connection: connection.undefine(server_id))
