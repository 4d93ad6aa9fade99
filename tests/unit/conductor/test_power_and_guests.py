"""Power actions, what guests do by themselves, and the order in which the two are heard of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nova_fast.commands.guests import record_guest_state, record_inventory
from nova_fast.model.commands.servers import ActOnServer, ResetServerState
from nova_fast.model.errors import Conflict, Unavailable
from nova_fast.model.states import ACTION_RULES, Action, PowerState, TaskState, VmState
from nova_fast.model.tasks import SEQUENCE_BITS, Done, GuestChanged, GuestInventory, GuestState, WantedGuests
from nova_fast.state.testing import memory_store
from tests.unit.conductor.player import ADMIN, Cloud

#: action → the actions that lead from ACTIVE to a state that allows it.
BEFORE: dict[Action, tuple[Action, ...]] = {
    Action.START: (Action.STOP,),
    Action.STOP: (),
    Action.REBOOT: (),
    Action.PAUSE: (),
    Action.UNPAUSE: (Action.PAUSE,),
    Action.SUSPEND: (),
    Action.RESUME: (Action.SUSPEND,),
}


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with memory_store() as store:
        yield Cloud(store)


def prepared(cloud: Cloud, action: Action) -> str:
    server_id = cloud.active()
    for earlier in BEFORE[action]:
        cloud.act(server_id, earlier)
        cloud.settle()
    return server_id


def says(cloud: Cloud, server_id: str, state: PowerState, host: str = "h1") -> None:
    cloud.commit(
        lambda tx: (record_guest_state(tx, GuestChanged(host=host, server_id=server_id, power_state=state)), Done())[1]
    )


@pytest.mark.parametrize(("action", "hard"), list(ACTION_RULES))
@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("restarting", [False, True])
def test_a_power_action_ends_in_its_state(
    cloud: Cloud, action: Action, hard: bool, twice: bool, restarting: bool
) -> None:
    server_id = prepared(cloud, action)
    cloud.act(server_id, action, hard=hard)
    rule = ACTION_RULES[action, hard]
    assert cloud.server(server_id).task_state is rule.task_state
    cloud.settle(twice=twice, restarting=restarting)
    server = cloud.server(server_id)
    assert (server.vm_state, server.task_state) == (rule.result, None)
    assert cloud.actions(server_id)[action].events[0].result == "Success"


@pytest.mark.parametrize(("action", "hard"), list(ACTION_RULES))
def test_a_power_action_that_fails_shows_the_server_as_it_was(cloud: Cloud, action: Action, hard: bool) -> None:
    server_id = prepared(cloud, action)
    before = cloud.server(server_id)
    cloud.act(server_id, action, hard=hard)
    while cloud.pending[0].step != "power":
        cloud.answer(cloud.next())
    late = cloud.next("power")
    cloud.fail(late, Conflict("libvirt says no"))
    server = cloud.server(server_id)
    assert server.vm_state is (VmState.ERROR if hard else before.vm_state)
    assert (server.fault is not None) is hard
    entry = cloud.actions(server_id)[action]
    assert (entry.message, entry.events[0].details) == ("Error", "libvirt says no")
    cloud.answer(late, GuestState(server_id=server_id, power_state=PowerState.CRASHED))  # too late
    assert cloud.server(server_id) == server


def test_a_delete_replaces_a_power_action(cloud: Cloud) -> None:
    server_id = cloud.active()
    cloud.act(server_id, Action.STOP)
    late = cloud.next("power")
    cloud.delete(server_id)
    assert cloud.actions(server_id)["stop"].message == "Error"
    cloud.answer(late, GuestState(server_id=server_id, power_state=PowerState.SHUTDOWN))
    cloud.settle()
    cloud.assert_gone(server_id)


def test_a_hard_reboot_replaces_another_action_which_ends_as_an_error(cloud: Cloud) -> None:
    server_id = cloud.active()
    cloud.act(server_id, Action.SUSPEND)
    late = cloud.next("power")
    cloud.act(server_id, Action.REBOOT, hard=True)
    entry = cloud.actions(server_id)["suspend"]
    assert (entry.message, entry.events[0].result) == ("Error", "Error")
    cloud.answer(late, GuestState(server_id=server_id, power_state=PowerState.SUSPENDED))
    assert cloud.server(server_id).task_state is TaskState.REBOOTING_HARD
    cloud.settle()
    assert cloud.server(server_id).vm_state is VmState.ACTIVE


def test_a_stop_is_not_replaced_by_a_hard_reboot(cloud: Cloud) -> None:
    server_id = cloud.active()
    cloud.act(server_id, Action.STOP)
    request = ActOnServer(caller=ADMIN, server_id=server_id, action=Action.REBOOT, hard=True)
    assert cloud.refused(request).code == "instance_invalid_state"


def test_a_server_that_was_never_built_cannot_be_switched(cloud: Cloud) -> None:
    server_id = cloud.create()
    cloud.fail(cloud.next("schedule"))
    assert cloud.server(server_id).vm_state is VmState.ERROR
    for action, hard in ((Action.STOP, False), (Action.REBOOT, True)):
        request = ActOnServer(caller=ADMIN, server_id=server_id, action=action, hard=hard)
        assert cloud.refused(request).code == "instance_not_launched"


@pytest.mark.parametrize(
    ("state", "vm_state"),
    [
        (PowerState.SHUTDOWN, VmState.STOPPED),
        (PowerState.CRASHED, VmState.STOPPED),
        (PowerState.NOSTATE, VmState.STOPPED),
        (PowerState.PAUSED, VmState.PAUSED),
        (PowerState.RUNNING, VmState.ACTIVE),
    ],
)
def test_what_a_guest_does_by_itself_is_shown(cloud: Cloud, state: PowerState, vm_state: VmState) -> None:
    server_id = cloud.active()
    says(cloud, server_id, state, host="h2")  # not its host
    assert cloud.server(server_id).vm_state is VmState.ACTIVE
    says(cloud, server_id, state)
    assert (cloud.server(server_id).vm_state, cloud.server(server_id).power_state) == (vm_state, state)


@pytest.mark.parametrize("first", ["event", "answer"])
def test_a_guest_that_stops_as_asked_is_stopped_in_whatever_order_it_is_heard(cloud: Cloud, first: str) -> None:
    server_id = cloud.active()
    cloud.act(server_id, Action.STOP)
    task = cloud.next("power")
    if first == "event":
        says(cloud, server_id, PowerState.SHUTDOWN)
    cloud.answer(task)
    if first == "answer":
        says(cloud, server_id, PowerState.SHUTDOWN)
    assert cloud.server(server_id).vm_state is VmState.STOPPED


def test_a_guest_that_stopped_although_its_host_gave_no_answer_is_stopped(cloud: Cloud) -> None:
    server_id = cloud.active()
    cloud.act(server_id, Action.STOP)
    says(cloud, server_id, PowerState.SHUTDOWN)
    cloud.fail(cloud.next("power"), Unavailable("compute@h1 did not answer in time"))
    assert cloud.server(server_id).vm_state is VmState.STOPPED
    assert cloud.actions(server_id)["stop"].message == "Error"


def test_a_suspended_guest_that_is_off_is_still_suspended(cloud: Cloud) -> None:
    server_id = cloud.active()
    cloud.act(server_id, Action.SUSPEND)
    cloud.settle()
    says(cloud, server_id, PowerState.SHUTDOWN)
    assert cloud.server(server_id).vm_state is VmState.SUSPENDED
    says(cloud, server_id, PowerState.RUNNING)
    assert cloud.server(server_id).vm_state is VmState.ACTIVE


def test_a_server_in_error_stays_there_whatever_its_guest_does(cloud: Cloud) -> None:
    server_id = cloud.active()
    cloud.run(ResetServerState(caller=ADMIN, server_id=server_id, vm_state=VmState.ERROR))
    says(cloud, server_id, PowerState.SHUTDOWN)
    assert (cloud.server(server_id).vm_state, cloud.server(server_id).power_state) == (
        VmState.ERROR,
        PowerState.SHUTDOWN,
    )


# ---------------------------------------------------------------------- inventories
def inventory(cloud: Cloud, since_us: int, **guests: PowerState) -> tuple[str, ...]:
    message = GuestInventory(
        host="h1",
        guests=tuple(GuestState(server_id=name.replace("_", "-"), power_state=state) for name, state in guests.items()),
    )
    answer = cloud.commit(lambda tx: record_inventory(tx, message, since_us))
    assert isinstance(answer, WantedGuests)
    return answer.server_ids


def now_us(cloud: Cloud) -> int:
    return int(cloud.store.run(lambda tx: tx.now_us))


def test_an_inventory_stops_what_is_missing_and_names_what_belongs_there(cloud: Cloud) -> None:
    there, missing = cloud.active(), cloud.active()
    wanted = inventory(cloud, now_us(cloud), **{there: PowerState.RUNNING})
    assert set(wanted) == {there, missing}
    assert cloud.server(there).vm_state is VmState.ACTIVE
    assert cloud.server(missing).vm_state is VmState.STOPPED


def test_an_inventory_made_before_a_spawn_ended_does_not_stop_the_server(cloud: Cloud) -> None:
    connected_us = now_us(cloud)
    server_id = cloud.active()
    assert server_id in inventory(cloud, connected_us)
    assert cloud.server(server_id).vm_state is VmState.ACTIVE


def test_an_inventory_does_not_take_back_what_was_heard_after_it(cloud: Cloud) -> None:
    server_id = cloud.active()
    connected_us = now_us(cloud)
    says(cloud, server_id, PowerState.RUNNING)  # nothing new, but heard
    inventory(cloud, connected_us, **{server_id: PowerState.SHUTDOWN})
    assert cloud.server(server_id).vm_state is VmState.ACTIVE


def test_an_inventory_says_nothing_of_a_server_under_work(cloud: Cloud) -> None:
    spawning = cloud.create()
    cloud.answer(cloud.next("schedule"))
    cloud.answer(cloud.next("network"))
    assert inventory(cloud, now_us(cloud)) == (spawning,)
    assert cloud.server(spawning).vm_state is VmState.BUILDING
    cloud.settle()
    assert cloud.server(spawning).vm_state is VmState.ACTIVE


# ---------------------------------------------------------------------- what is heard late
OLD, NEW = 5 << SEQUENCE_BITS, 3 << SEQUENCE_BITS  # two processes of one host's daemon, one after the other


def tell(cloud: Cloud, server_id: str, state: PowerState, sequence: int) -> None:
    message = GuestChanged(host="h1", server_id=server_id, power_state=state, sequence=sequence)
    cloud.commit(lambda tx: (record_guest_state(tx, message), Done())[1])


@pytest.mark.parametrize(
    ("told", "answered", "vm_state"),
    [
        (OLD + 2, OLD + 1, VmState.STOPPED),  # the answer was lost, and sent again after the guest had died
        (OLD + 1, OLD + 2, VmState.ACTIVE),  # the guest died before it was started again
        (OLD + 2, NEW + 1, VmState.ACTIVE),  # what another process did afterwards
    ],
)
@pytest.mark.parametrize("kind", ["create", "reboot"])
def test_of_an_answer_and_what_a_host_said_by_itself_the_later_counts(
    cloud: Cloud, kind: str, told: int, answered: int, vm_state: VmState
) -> None:
    if kind == "create":
        server_id = cloud.create()
        cloud.answer(cloud.next("schedule"))
        cloud.answer(cloud.next("network"))
        task = cloud.next("spawn")
    else:
        server_id = cloud.active()
        cloud.act(server_id, Action.REBOOT)
        cloud.answer(cloud.next("network"))
        task = cloud.next("power")
    tell(cloud, server_id, PowerState.SHUTDOWN, told)
    answer = GuestState(server_id=server_id, power_state=PowerState.RUNNING, sequence=answered)
    cloud.commit(lambda tx: (cloud.engine.take_answer(tx, task.id, answer), Done())[1])
    cloud.settle()
    assert cloud.server(server_id).vm_state is vm_state


def test_a_change_that_is_heard_after_a_newer_one_changes_nothing(cloud: Cloud) -> None:
    server_id = cloud.active()
    tell(cloud, server_id, PowerState.SHUTDOWN, OLD + 2)
    tell(cloud, server_id, PowerState.RUNNING, OLD + 1)
    assert cloud.server(server_id).vm_state is VmState.STOPPED
    tell(cloud, server_id, PowerState.RUNNING, NEW + 1)
    assert cloud.server(server_id).vm_state is VmState.ACTIVE


def test_an_inventory_counts_unless_its_host_has_said_more_since_whatever_the_clocks_say(cloud: Cloud) -> None:
    server_id = cloud.active()

    def hear(sequence: int) -> VmState:
        message = GuestInventory(host="h1", guests=(), sequence=sequence)
        cloud.commit(lambda tx: record_inventory(tx, message, 0))
        return cloud.server(server_id).vm_state

    tell(cloud, server_id, PowerState.RUNNING, OLD + 2)
    assert hear(OLD + 1) is VmState.ACTIVE
    assert hear(OLD + 3) is VmState.STOPPED
    tell(cloud, server_id, PowerState.RUNNING, OLD + 4)
    assert hear(NEW + 1) is VmState.STOPPED
