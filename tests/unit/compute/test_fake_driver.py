"""The fake driver gives a hypervisor's answers."""

from __future__ import annotations

import asyncio
import platform
import time

import pytest

from nova_fast.compute.drivers.base import Driver
from nova_fast.compute.drivers.choice import create_driver
from nova_fast.compute.drivers.fake import FakeDriver
from nova_fast.config import ComputeConfig, Config
from nova_fast.model.errors import BadRequest, Conflict, NotFound
from nova_fast.model.placement_names import TRAITS
from nova_fast.model.states import Action, PowerState
from nova_fast.model.tasks import GuestState, PowerGuest, ReadConsole
from tests.tries import least_of

from .builders import SERVER_ID, a_guest

GUEST = a_guest()


def fake(**options: float) -> tuple[FakeDriver, list[GuestState]]:
    changes: list[GuestState] = []
    return FakeDriver(ComputeConfig(driver="fake", **options), changes.append), changes  # type: ignore[arg-type]


def power(driver: Driver, action: Action, hard: bool = False) -> PowerState:
    return asyncio.run(driver.power(PowerGuest(guest=GUEST, action=action, hard=hard))).power_state


def test_a_guest_lives_from_spawn_to_destroy() -> None:
    driver, changes = fake()
    for _ in range(2):
        assert asyncio.run(driver.spawn(GUEST)) == GuestState(server_id=SERVER_ID, power_state=PowerState.RUNNING)
        assert len(asyncio.run(driver.inventory())) == 1
    assert "login:" in asyncio.run(driver.console(ReadConsole(server_id=SERVER_ID, domain_name="x")))
    assert asyncio.run(driver.console(ReadConsole(server_id=SERVER_ID, domain_name="x", lines=1))).count("\n") == 1
    for _ in range(2):
        assert asyncio.run(driver.destroy(SERVER_ID, "x")).power_state is PowerState.NOSTATE
        assert asyncio.run(driver.inventory()) == []
    assert changes == []


def test_power_actions_lead_where_they_should_and_can_be_repeated() -> None:
    driver, _ = fake()
    asyncio.run(driver.spawn(GUEST))
    for action, end in (
        (Action.PAUSE, PowerState.PAUSED),
        (Action.UNPAUSE, PowerState.RUNNING),
        (Action.SUSPEND, PowerState.SUSPENDED),
        (Action.RESUME, PowerState.RUNNING),
        (Action.REBOOT, PowerState.RUNNING),
        (Action.STOP, PowerState.SHUTDOWN),
        (Action.START, PowerState.RUNNING),
    ):
        assert power(driver, action) is end
        assert power(driver, action) is end


def test_what_a_hypervisor_would_refuse_is_refused() -> None:
    driver, _ = fake()
    for action in (Action.PAUSE, Action.UNPAUSE, Action.SUSPEND):
        with pytest.raises(NotFound):
            power(driver, action)
    asyncio.run(driver.spawn(GUEST))
    power(driver, Action.STOP)
    for action in (Action.PAUSE, Action.UNPAUSE, Action.SUSPEND):
        if action is not Action.UNPAUSE:
            with pytest.raises(Conflict):
                power(driver, action)
    assert power(driver, Action.REBOOT, hard=True) is PowerState.RUNNING


def test_a_guest_that_was_lost_with_its_machine_is_off_and_can_be_started() -> None:
    for action in (Action.START, Action.RESUME, Action.REBOOT):
        driver, _ = fake()
        assert power(driver, Action.STOP) is PowerState.NOSTATE
        assert power(driver, action, hard=action is Action.REBOOT) is PowerState.RUNNING
        assert len(asyncio.run(driver.inventory())) == 1


def test_a_guest_that_changes_by_itself_is_reported() -> None:
    driver, changes = fake()
    asyncio.run(driver.spawn(GUEST))
    driver.change(SERVER_ID, PowerState.SHUTDOWN)
    assert changes == [GuestState(server_id=SERVER_ID, power_state=PowerState.SHUTDOWN)]
    assert power(driver, Action.START) is PowerState.RUNNING


def test_work_takes_the_time_it_was_told_to_and_different_guests_do_not_wait_for_each_other() -> None:
    async def many(driver: Driver) -> None:
        await asyncio.gather(*(driver.spawn(a_guest(server_id=f"s{number}")) for number in range(50)))

    def took_s() -> float:
        driver, _ = fake(fake_delay_s=0.1)
        started = time.monotonic()
        asyncio.run(many(driver))
        return time.monotonic() - started

    assert 0.1 <= least_of(took_s, 1.0) < 1.0


def test_resources_are_the_configured_ones() -> None:
    driver, _ = fake(fake_vcpus=7, fake_ram_mib=11, fake_disk_gib=13)
    resources = asyncio.run(driver.resources())
    assert (resources.vcpus, resources.ram_mib, resources.disk_gib) == (7, 11, 13)
    assert resources.hypervisor_type == "fake"


def test_switching_everything_off_leaves_what_is_suspended() -> None:
    driver, changes = fake()
    asyncio.run(driver.spawn(GUEST))
    asyncio.run(driver.spawn(a_guest(server_id="other")))
    power(driver, Action.SUSPEND)
    assert asyncio.run(driver.switch_off_all(1.0)) == []
    states = {state.server_id: state.power_state for state in asyncio.run(driver.inventory())}
    assert states == {SERVER_ID: PowerState.SUSPENDED, "other": PowerState.SHUTDOWN}
    assert changes == []


def test_the_configuration_names_the_driver() -> None:
    made = create_driver(Config(compute=ComputeConfig(driver="fake")), lambda _: None)
    assert isinstance(made, FakeDriver)
    with pytest.raises(BadRequest):
        create_driver(Config(compute=ComputeConfig(driver="xen")), lambda _: None)


def test_the_machine_is_described_by_standard_names() -> None:
    driver, _ = fake()
    resources = asyncio.run(driver.resources())
    assert resources.supported_instances == ((platform.machine(), "fake", "hvm"),)
    assert {"COMPUTE_NODE", "HW_CPU_X86_AVX2"} <= set(resources.traits) <= TRAITS
    assert "avx2" in resources.features
