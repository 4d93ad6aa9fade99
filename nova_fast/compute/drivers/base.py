"""What the compute daemon asks of a hypervisor.

Every method is idempotent: it is told the wanted state, and doing it twice is doing it once. Methods on one server wait
for each other; methods on different servers run side by side. What fails raises a
:class:`~nova_fast.model.errors.NovaFastError` whose message a person can act on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from nova_fast.model.hosts import HostResources
from nova_fast.model.tasks import Guest, GuestImage, GuestState, PowerGuest, ReadConsole

#: Told of a guest that changed its state by itself: on the event loop, not while an operation on it runs.
OnChange = Callable[[GuestState], None]


class Driver(Protocol):
    """A hypervisor."""

    async def start(self) -> None:
        """Connect and look around. Raises Unavailable when the hypervisor cannot be reached."""

    async def close(self) -> None:
        """Let go of the hypervisor; guests go on."""

    async def resources(self) -> HostResources:
        """What the machine has, taken or not."""

    async def spawn(self, guest: Guest) -> GuestState:
        """Make a guest and start it; one that is there already is left as it is.

        Raises BadRequest for an image that cannot be used, Unavailable when trying again (here or elsewhere) may help.
        """

    async def destroy(self, server_id: str, domain_name: str) -> GuestState:
        """Remove every trace of a guest. → NOSTATE, also when there was none."""

    async def power(self, message: PowerGuest) -> GuestState:
        """Start, stop, reboot, pause, unpause, suspend or resume a guest. → the state it ended in.

        Raises NotFound or Conflict when the guest is not in a state from which that can be done.
        """

    async def cache_image(self, image: GuestImage) -> None:
        """Have an image here before a guest needs it. Raises what ``spawn`` raises of an image."""

    async def manage_image_cache(self) -> None:
        """Remove the images that no guest here has needed for as long as the options say."""

    async def console(self, message: ReadConsole) -> str:
        """The end of what the guest wrote to its serial console; at most 1 MiB. Raises NotFound."""

    async def inventory(self) -> list[GuestState]:
        """The guests of this cloud on this host, whatever their state; NOSTATE for one of which only files are left."""

    async def switch_off_all(self, grace_s: float) -> list[str]:
        """Shut every guest of this cloud down, by force after ``grace_s``; disks stay. → the servers that would not."""
