"""What a compute daemon says by itself: until it is heard, and until nothing is left of what belongs nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from nova_fast.compute import reports
from nova_fast.compute.drivers.fake import FakeDriver
from nova_fast.compute.reports import GuestReports
from nova_fast.config import ComputeConfig
from nova_fast.model.base import Message
from nova_fast.model.errors import Unavailable
from nova_fast.model.states import PowerState
from nova_fast.model.tasks import Done, GuestChanged, GuestInventory, GuestState, WantedGuests

from .builders import a_guest


class Host:
    """A driver whose host is compared with a conductor that is there or not."""

    def __init__(self) -> None:
        self.driver = FakeDriver(ComputeConfig(driver="fake"), lambda state: self.reports.changed(state))
        self.reports = GuestReports("h1", self.driver, self.ask, 7)
        self.wanted: tuple[str, ...] = ()
        self.away = False
        self.heard: list[Message] = []
        self.refused = 0

    async def ask(self, message: Message) -> Message:
        away = self.away
        await asyncio.sleep(0)
        if away:
            self.refused += 1
            raise Unavailable("nobody is there")
        self.heard.append(message)
        return WantedGuests(server_ids=self.wanted) if isinstance(message, GuestInventory) else Done()

    def there(self) -> set[str]:
        return set(self.driver._guests)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AGAIN_S", "AGAIN_S_MAX"):
        monkeypatch.setattr(reports, name, 0.01)


def play(story: Callable[[Host], Awaitable[None]]) -> None:
    async def run() -> None:
        host = Host()
        host.reports.start()
        await story(host)
        await host.reports.close()

    asyncio.run(run())


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not what():  # noqa: ASYNC110 - what is looked for tells nobody
            await asyncio.sleep(0.005)


def test_a_comparison_that_fails_is_made_again_until_nothing_is_left_that_belongs_nowhere() -> None:
    async def story(host: Host) -> None:
        await host.driver.spawn(a_guest(server_id="wanted"))
        await host.driver.spawn(a_guest(server_id="orphan"))
        host.wanted, host.away = ("wanted",), True
        host.reports.compare()
        await until(lambda: host.refused > 2)
        host.away = False
        await until(lambda: host.there() == {"wanted"})

    play(story)


def test_a_guest_that_cannot_be_destroyed_now_is_destroyed_later() -> None:
    async def story(host: Host) -> None:
        await host.driver.spawn(a_guest(server_id="orphan"))
        destroy, refusals = host.driver.destroy, iter(range(3))

        async def unwilling(server_id: str, domain_name: str) -> GuestState:
            if next(refusals, None) is not None:
                raise Unavailable("the hypervisor is away")
            return await destroy(server_id, domain_name)

        host.driver.destroy = unwilling  # type: ignore[method-assign]
        host.reports.compare()
        await until(lambda: not host.there())

    play(story)


def test_a_guest_that_is_being_made_is_compared_too() -> None:
    async def story(host: Host) -> None:
        with host.reports.making("slow"):
            host.reports.compare()
            await until(lambda: bool(host.heard))
        assert isinstance(host.heard[0], GuestInventory)
        assert [guest.server_id for guest in host.heard[0].guests] == ["slow"]

    play(story)


def test_a_change_is_said_until_it_is_heard_and_the_newest_is_what_is_heard_last() -> None:
    async def story(host: Host) -> None:
        await host.driver.spawn(a_guest(server_id="s1"))
        host.away = True
        host.driver.change("s1", PowerState.CRASHED)
        await until(lambda: host.refused > 2)
        host.driver.change("s1", PowerState.SHUTDOWN)
        host.away = False
        await until(lambda: bool(host.heard))
        await asyncio.sleep(0.05)
        said = [message for message in host.heard if isinstance(message, GuestChanged)]
        assert [message.power_state for message in said] == [PowerState.SHUTDOWN]

    play(story)


def test_everything_that_is_said_has_a_larger_number_than_what_was_said_before() -> None:
    async def story(host: Host) -> None:
        await host.driver.spawn(a_guest(server_id="s1"))
        first = host.reports.numbered(GuestState(server_id="s1", power_state=PowerState.RUNNING))
        host.driver.change("s1", PowerState.SHUTDOWN)
        await until(lambda: bool(host.heard))
        host.reports.compare()
        await until(lambda: len(host.heard) == 2)
        numbers = [first.sequence, *(message.sequence for message in host.heard)]  # type: ignore[attr-defined]
        assert numbers == sorted(set(numbers))

    play(story)
