"""Power actions against domains in memory that behave as libvirt's do."""

from __future__ import annotations

import asyncio
import time

import pytest

from nova_fast.compute.drivers.libvirt.domains import Domains
from nova_fast.compute.drivers.libvirt.locks import Hold, ServerLocks
from nova_fast.compute.drivers.libvirt.power import PowerActions
from nova_fast.compute.drivers.libvirt.power_states import DomainState, DomainStatus, power_state
from nova_fast.model.errors import BadRequest, Conflict, NotFound
from nova_fast.model.states import Action, PowerState
from nova_fast.model.tasks import Guest, PowerGuest
from tests.tries import least_of

from .builders import SERVER_ID, a_guest

GUEST = a_guest()


class DomainInMemory(Domains):
    """One domain; ``listens_after`` is the press of the power button that its guest obeys."""

    def __init__(self, state: DomainState | None, *, saved: bool = False, listens_after: int | None = None) -> None:
        self.state = state
        self.saved = saved
        self.listens_after = listens_after
        self.done: list[str] = []

    async def status(self, server_id: str) -> DomainStatus | None:
        if self.state is None:
            return None
        return DomainStatus(server_id=server_id, name="x", state=self.state, saved=self.saved, instances_dir="/i")

    async def start(self, server_id: str) -> None:
        assert self.state is DomainState.SHUTOFF
        self._do("restore" if self.saved else "boot", DomainState.RUNNING)
        self.saved = False

    async def press_power_button(self, server_id: str) -> None:
        self.done.append("press")
        if self.listens_after is not None and self.done.count("press") >= self.listens_after:
            self.state = DomainState.SHUTOFF

    async def kill(self, server_id: str) -> None:
        self._do("kill", DomainState.SHUTOFF)

    async def pause(self, server_id: str) -> None:
        self._do("pause", DomainState.PAUSED)

    async def unpause(self, server_id: str) -> None:
        self._do("unpause", DomainState.RUNNING)

    async def save(self, server_id: str) -> None:
        self._do("save", DomainState.SHUTOFF)
        self.saved = True

    async def discard_save(self, server_id: str) -> None:
        self.done.append("discard")
        self.saved = False

    async def remake(self, guest: Guest) -> None:
        assert not self.saved, "a saved guest only fits the definition it was saved with"
        self.done.append("remake")
        self.state = self.state or DomainState.SHUTOFF

    def _do(self, what: str, state: DomainState) -> None:
        self.done.append(what)
        self.state = state


def perform(
    domain: DomainInMemory, action: Action, *, hard: bool = False, grace_s: float = 5.0, hold: Hold | None = None
) -> list[str]:
    message = PowerGuest(guest=GUEST, action=action, hard=hard, grace_s=grace_s)

    async def run() -> None:
        await PowerActions(domain, domain.remake).perform(message, hold or Hold())

    asyncio.run(run())
    return domain.done


OFF, RUNNING, PAUSED = DomainState.SHUTOFF, DomainState.RUNNING, DomainState.PAUSED


@pytest.mark.parametrize(
    ("state", "saved", "action", "hard", "steps"),
    [
        (OFF, False, Action.START, False, ["remake", "boot"]),
        (None, False, Action.START, False, ["remake", "boot"]),
        (RUNNING, False, Action.START, False, []),
        (PAUSED, False, Action.START, False, ["unpause"]),
        (RUNNING, False, Action.STOP, False, ["press"]),
        (OFF, False, Action.STOP, False, []),
        (None, False, Action.STOP, False, []),
        (PAUSED, False, Action.STOP, False, ["kill"]),
        (RUNNING, False, Action.REBOOT, False, ["press", "remake", "boot"]),
        (PAUSED, False, Action.REBOOT, False, ["kill", "remake", "boot"]),
        (RUNNING, False, Action.REBOOT, True, ["kill", "remake", "boot"]),
        (OFF, True, Action.REBOOT, True, ["discard", "remake", "boot"]),
        (None, False, Action.REBOOT, True, ["remake", "boot"]),
        (RUNNING, False, Action.PAUSE, False, ["pause"]),
        (PAUSED, False, Action.PAUSE, False, []),
        (PAUSED, False, Action.UNPAUSE, False, ["unpause"]),
        (RUNNING, False, Action.UNPAUSE, False, []),
        (RUNNING, False, Action.SUSPEND, False, ["save"]),
        (OFF, True, Action.SUSPEND, False, []),
        (OFF, True, Action.RESUME, False, ["restore"]),
        (RUNNING, False, Action.RESUME, False, []),
    ],
)
def test_every_action_takes_the_steps_its_start_needs(
    state: DomainState | None, saved: bool, action: Action, hard: bool, steps: list[str]
) -> None:
    assert perform(DomainInMemory(state, saved=saved, listens_after=1), action, hard=hard) == steps


@pytest.mark.parametrize("action", [Action.PAUSE, Action.UNPAUSE, Action.SUSPEND])
def test_a_guest_that_is_off_or_absent_cannot_be_paused_or_suspended(action: Action) -> None:
    with pytest.raises(Conflict):
        perform(DomainInMemory(OFF), action)
    with pytest.raises(NotFound):
        perform(DomainInMemory(None), action)


def test_what_is_no_power_action_is_refused() -> None:
    with pytest.raises(BadRequest):
        perform(DomainInMemory(RUNNING), Action.DELETE)


def test_a_guest_that_does_not_listen_is_killed_after_its_grace_and_not_before() -> None:
    def took_s() -> float:
        started = time.monotonic()
        assert perform(DomainInMemory(RUNNING), Action.STOP, grace_s=0.4) == ["press", "kill"]
        return time.monotonic() - started

    assert 0.4 <= least_of(took_s, 1.5) < 1.5


def test_a_guest_that_missed_the_first_press_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nova_fast.compute.drivers.libvirt.power.PRESS_AGAIN_S", 0.15)
    assert perform(DomainInMemory(RUNNING, listens_after=2), Action.STOP) == ["press", "press"]


def test_somebody_in_a_hurry_ends_the_waiting_for_a_guest() -> None:
    async def run() -> float:
        locks, domain = ServerLocks(), DomainInMemory(RUNNING)
        actions = PowerActions(domain, domain.remake)

        async def stop() -> None:
            async with locks.hold(SERVER_ID) as hold:
                await actions.perform(PowerGuest(guest=GUEST, action=Action.STOP, grace_s=30.0), hold)

        started = time.monotonic()
        stopping = asyncio.create_task(stop())
        await asyncio.sleep(0.2)
        assert locks.held(SERVER_ID)
        async with locks.hold(SERVER_ID, hurry_others=True) as hold:
            assert not hold.hurry.is_set(), "the one who hurried others is not hurried"
            took = time.monotonic() - started
        await stopping
        assert domain.done == ["press", "kill"]
        assert not locks.held(SERVER_ID)
        return took

    assert asyncio.run(run()) < 20, "of a grace of 30 s"


def test_operations_on_one_server_wait_for_each_other_and_on_two_do_not() -> None:
    async def run() -> list[str]:
        locks, order = ServerLocks(), []

        async def work(server: str, name: str, pause_s: float) -> None:
            async with locks.hold(server):
                order.append(f"{name} begins")
                await asyncio.sleep(pause_s)
                order.append(f"{name} ends")

        await asyncio.gather(work("a", "first", 0.1), work("a", "second", 0), work("b", "other", 0))
        return order

    assert asyncio.run(run()) == [
        "first begins",
        "other begins",
        "other ends",
        "first ends",
        "second begins",
        "second ends",
    ]


@pytest.mark.parametrize(
    ("state", "saved", "expected"),
    [
        (DomainState.RUNNING, False, PowerState.RUNNING),
        (DomainState.BLOCKED, False, PowerState.RUNNING),
        (DomainState.PAUSED, False, PowerState.PAUSED),
        (DomainState.SHUTDOWN, False, PowerState.RUNNING),
        (DomainState.SHUTOFF, False, PowerState.SHUTDOWN),
        (DomainState.SHUTOFF, True, PowerState.SUSPENDED),
        (DomainState.CRASHED, False, PowerState.CRASHED),
    ],
)
def test_libvirts_states_are_the_apis(state: DomainState, saved: bool, expected: PowerState) -> None:
    status = DomainStatus(server_id="s", name="n", state=state, saved=saved, instances_dir=None)
    assert power_state(status) is expected
    assert power_state(None) is PowerState.NOSTATE
