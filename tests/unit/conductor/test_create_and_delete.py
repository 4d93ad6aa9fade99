"""Creating and deleting servers: every step done, failed, repeated, late, interrupted by a delete or a restart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nova_fast.commands.hosts import record_host_report
from nova_fast.model.commands.hosts import UpdateComputeService
from nova_fast.model.commands.ports import CreatePorts, NewPort
from nova_fast.model.commands.servers import RequestedNic
from nova_fast.model.errors import Conflict, InternalError, Unavailable
from nova_fast.model.events import Released
from nova_fast.model.states import PowerState, TaskState, VmState
from nova_fast.model.tasks import Done, FilterCount, GuestState, HostReport, Placement
from nova_fast.state import schema as tables
from nova_fast.state.testing import memory_store
from tests.unit.conductor.player import ADMIN, ALICE, Cloud, resources
from tests.unit.recount import assert_nothing_left

CREATE_STEPS = ("schedule", "network", "spawn")


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with memory_store() as store:
        yield Cloud(store)


def up_to(cloud: Cloud, server_id: str, step: str) -> None:
    """Do the steps before this one, whose task is then the one that waits."""
    while cloud.pending[0].step != step:
        cloud.answer(cloud.next())
    assert cloud.pending[0].server_id == server_id


@pytest.mark.parametrize("restarting", [False, True])
@pytest.mark.parametrize("twice", [False, True])
def test_a_server_is_built_whatever_is_repeated_or_restarted(cloud: Cloud, twice: bool, restarting: bool) -> None:
    server_id = cloud.create(user_data=b"#!/bin/sh", config_drive=True)
    assert cloud.server(server_id).task_state is TaskState.SCHEDULING
    cloud.settle(twice=twice, restarting=restarting)
    server = cloud.server(server_id)
    assert (server.vm_state, server.task_state, server.power_state) == (VmState.ACTIVE, None, PowerState.RUNNING)
    assert server.host == "h1"
    assert server.launched_at_us > 0
    assert [(port.host, port.status) for port in cloud.ports(server_id)] == [("h1", "ACTIVE")]
    action = cloud.actions(server_id)["create"]
    assert (action.message, action.events[0].result, action.events[0].host) == (None, "Success", "h1")
    cloud.delete(server_id)
    cloud.settle(twice=twice, restarting=restarting)
    cloud.assert_gone(server_id)


@pytest.mark.parametrize("step", ["network", "spawn"])
def test_a_host_that_fails_is_unwound_and_the_next_one_tried(cloud: Cloud, step: str) -> None:
    server_id = cloud.create()
    up_to(cloud, server_id, step)
    cloud.fail(cloud.next())
    cloud.settle()
    server = cloud.server(server_id)
    assert (server.vm_state, server.host) == (VmState.ACTIVE, "h2")
    assert cloud.guests == {server_id: "h2"}
    cloud.delete(server_id)
    cloud.settle()
    cloud.assert_gone(server_id)


@pytest.mark.parametrize("step", CREATE_STEPS)
@pytest.mark.parametrize("restarting", [False, True])
def test_when_every_host_fails_all_is_given_back(cloud: Cloud, step: str, restarting: bool) -> None:
    server_id = cloud.create()
    for _ in range(20):
        if restarting:
            cloud.restart()
        if not cloud.pending:
            break
        task = cloud.next()
        if task.step == step and cloud.workflow(server_id).direction == "forward":  # type: ignore[union-attr]
            cloud.fail(task, Unavailable("The disk is full.", hint="make room"))
        else:
            cloud.answer(task)
    server = cloud.server(server_id)
    assert (server.vm_state, server.task_state, server.host) == (VmState.ERROR, None, "")
    assert server.fault is not None
    assert server.fault.message == "The disk is full."
    assert "make room" in server.fault.details
    assert cloud.ports(server_id) == []
    assert cloud.guests == {}
    action = cloud.actions(server_id)["create"]
    assert (action.message, action.events[0].details) == ("Error", "The disk is full.")
    cloud.delete(server_id)
    cloud.settle()
    cloud.assert_gone(server_id)


def test_what_fails_inside_a_daemon_is_not_told_to_the_user(cloud: Cloud) -> None:
    server_id = cloud.create()
    for _ in range(2):
        up_to(cloud, server_id, "spawn")
        cloud.fail(cloud.next(), InternalError("KeyError: /root/secret"))
        cloud.answer(cloud.next("spawn"))  # its undo
    cloud.settle()
    fault = cloud.server(server_id).fault
    assert fault is not None
    assert "secret" not in fault.message + fault.details
    assert "h2" in fault.details


def test_no_valid_host_says_what_each_filter_removed(cloud: Cloud) -> None:
    server_id = cloud.create()
    refusal = Placement(
        server_id=server_id,
        filters=(
            FilterCount(filter="ComputeFilter", before=7, after=7),
            FilterCount(filter="RamFilter", before=7, after=2),
            FilterCount(filter="CoreFilter", before=2, after=0),
        ),
        hint="it would fit with 2 vCPUs less",
    )
    cloud.answer(cloud.next("schedule"), refusal)
    fault = cloud.server(server_id).fault
    assert fault is not None
    assert fault.message == (
        "No valid host was found. RamFilter removed 5 of 7; CoreFilter removed 2 of 2. It would fit with 2 vCPUs less."
    )
    assert cloud.pending == []


def test_a_lost_race_excludes_that_host_and_counts_as_no_attempt(cloud: Cloud) -> None:
    cloud.run(UpdateComputeService(caller=ADMIN, host="h1", enabled=False))
    server_id = cloud.create()
    cloud.answer(cloud.next("schedule"), Placement(server_id=server_id, host="h1"))
    workflow = cloud.workflow(server_id)
    assert workflow is not None
    assert (workflow.excluded_hosts, workflow.attempts, workflow.conflicts) == (("h1",), 1, 1)
    cloud.settle()
    assert cloud.server(server_id).host == "h2"


def test_a_host_that_went_down_before_the_claim_is_not_taken(cloud: Cloud) -> None:
    server_id = cloud.create()
    cloud.host_up("h1", False)
    cloud.answer(cloud.next("schedule"), Placement(server_id=server_id, host="h1"))
    cloud.settle()
    assert cloud.server(server_id).host == "h2"


def test_a_claim_never_overfills_a_host_whatever_the_scheduler_says(cloud: Cloud) -> None:
    small = HostReport(host="h1", zone="nova", resources=resources(disk_gib=2))
    cloud.commit(lambda tx: record_host_report(tx, small))
    ids = [cloud.create() for _ in range(3)]
    for server_id in ids:
        cloud.answer(cloud.next("schedule"), Placement(server_id=server_id, host="h1"))
    cloud.settle()
    assert [cloud.server(server_id).host for server_id in ids] == ["h1", "h1", "h2"]


@pytest.mark.parametrize("step", CREATE_STEPS)
@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("restarting", [False, True])
def test_a_delete_at_every_step_of_a_create_leaves_nothing(
    cloud: Cloud, step: str, answered: bool, restarting: bool
) -> None:
    server_id = cloud.create(user_data=b"x", config_drive=True)
    up_to(cloud, server_id, step)
    late = cloud.next(step)
    answer = cloud.good(late)
    cloud.delete(server_id)
    if cloud.find(server_id) is not None:
        cloud.delete(server_id)  # asked twice, it is the same deletion
    if answered:
        cloud.answer(late, answer)
    cloud.settle(restarting=restarting)
    if not answered:
        cloud.answer(late, answer)
    cloud.assert_gone(server_id)


@pytest.mark.parametrize("step", ["network", "spawn"])
def test_a_delete_while_a_failed_create_unwinds_leaves_nothing(cloud: Cloud, step: str) -> None:
    server_id = cloud.create()
    up_to(cloud, server_id, step)
    cloud.fail(cloud.next(step))
    cloud.delete(server_id)
    cloud.settle()
    cloud.assert_gone(server_id)


def test_a_scheduler_that_answers_too_late_gets_its_choice_back(cloud: Cloud) -> None:
    server_id = cloud.create()
    task = cloud.next("schedule")
    answer = cloud.good(task)
    cloud.delete(server_id)
    cloud.settle()
    cloud.events.clear()
    cloud.answer(task, answer)
    released = [event for event in cloud.events if isinstance(event, Released)]
    assert [(event.server_id, event.host) for event in released] == [(server_id, "")]


def test_a_server_in_error_without_a_host_is_deleted_without_asking_anybody(cloud: Cloud) -> None:
    server_id = cloud.create()
    cloud.answer(cloud.next(), Placement(server_id=server_id))
    assert cloud.server(server_id).vm_state is VmState.ERROR
    cloud.delete(server_id)
    assert cloud.pending == []
    cloud.assert_gone(server_id)


def test_a_deletion_that_was_accepted_is_done_whatever_its_host_says(cloud: Cloud) -> None:
    server_id = cloud.active()
    cloud.delete(server_id)
    cloud.fail(cloud.next("destroy"), Conflict("The disk is busy."))
    assert cloud.find(server_id) is None
    cloud.guests.clear()  # its host compares until it is gone
    cloud.assert_gone(server_id)


def test_a_host_that_is_down_is_not_waited_for(cloud: Cloud) -> None:
    server_id = cloud.active()
    cloud.host_up("h1", False)
    cloud.delete(server_id)
    assert cloud.pending == []
    assert cloud.find(server_id) is None
    cloud.store.read(assert_nothing_left)


def test_a_delete_that_waits_ends_when_its_host_goes_down(cloud: Cloud) -> None:
    server_id = cloud.active()
    cloud.delete(server_id)
    task = cloud.next("destroy")
    cloud.host_up("h1", False)
    assert cloud.find(server_id) is None
    cloud.store.read(assert_nothing_left)
    cloud.answer(task)  # and what comes late changes nothing


def test_an_undo_that_waits_ends_when_its_host_goes_down_but_a_spawn_goes_on_waiting(cloud: Cloud) -> None:
    undone, spawning = cloud.create(), cloud.create()
    cloud.answer(cloud.next("schedule"))
    cloud.answer(cloud.next("schedule"))
    cloud.answer(cloud.next("network"))
    cloud.answer(cloud.next("network"))
    cloud.fail(cloud.next("spawn"))
    cloud.host_up("h1", False)
    assert [(t.server_id, t.step) for t in cloud.pending if cloud.waits(t)] == [
        (spawning, "spawn"),
        (undone, "schedule"),
    ]


def test_a_host_that_an_admin_forced_down_is_not_waited_for(cloud: Cloud) -> None:
    server_id = cloud.active()
    cloud.delete(server_id)
    cloud.run(UpdateComputeService(caller=ADMIN, host="h1", forced_down=True))

    def housekeeping(tx: object) -> Done:
        cloud.engine.hosts_down(tx)  # type: ignore[arg-type]
        return Done()

    cloud.commit(housekeeping)
    assert cloud.find(server_id) is None


def test_a_task_that_everybody_has_lost_fails_behind_its_deadline(cloud: Cloud) -> None:
    server_id = cloud.create()
    up_to(cloud, server_id, "network")
    deadline_us = cloud.pending[0].deadline_us
    cloud.pending.clear()

    def expire(before_us: int) -> int:
        return int(cloud.commit(lambda tx: cloud.engine.expire(tx, before_us)))

    assert expire(deadline_us) == 0
    assert expire(deadline_us + 1) == 1
    cloud.settle()
    assert cloud.server(server_id).host == "h2"


def test_a_defect_in_a_recipe_ends_in_error_and_not_in_a_loop(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    broken, fine = cloud.create(name="broken"), cloud.create(name="fine")
    for _ in range(4):
        cloud.answer(cloud.next())
    cloud.answer(cloud.next("spawn"), Done())  # not what a compute answers
    assert "nobody foresaw" in caplog.text
    server = cloud.server(broken)
    assert (server.vm_state, server.task_state) == (VmState.ERROR, None)
    assert cloud.workflow(broken) is None
    cloud.settle()
    assert cloud.server(fine).vm_state is VmState.ACTIVE
    cloud.delete(broken)
    cloud.delete(fine)
    cloud.settle()
    cloud.store.read(assert_nothing_left)


def test_a_guest_that_stopped_before_its_spawn_was_answered_is_shown_as_stopped(cloud: Cloud) -> None:
    server_id = cloud.create()
    up_to(cloud, server_id, "spawn")
    cloud.answer(cloud.next(), GuestState(server_id=server_id, power_state=PowerState.SHUTDOWN))
    assert cloud.server(server_id).vm_state is VmState.STOPPED


def test_the_password_is_kept_only_for_a_config_drive_and_only_while_it_is_made(cloud: Cloud) -> None:
    plain, drive = cloud.create(admin_password="s3cret"), cloud.create(admin_password="s3cret", config_drive=True)
    assert [cloud.workflow(s).admin_password for s in (plain, drive)] == ["", "s3cret"]  # type: ignore[union-attr]
    cloud.settle()
    assert "s3cret" not in repr(cloud.dump())


def test_a_port_that_was_there_before_is_free_again_after(cloud: Cloud) -> None:
    port = cloud.run(CreatePorts(caller=ALICE, ports=(NewPort(network_id=cloud.network_id),))).ports[0]
    server_id = cloud.active(networks=(RequestedNic(port_id=port.id, tag="nic0"),))
    used = cloud.ports(server_id)[0]
    assert (used.id, used.host, used.device_tag) == (port.id, "h1", "nic0")
    cloud.delete(server_id)
    cloud.settle()
    cloud.assert_gone(server_id)
    free = cloud.store.read(lambda r: r.need(tables.PORTS, port.id, "Port"))
    assert (free.device_id, free.host, free.device_owner, free.device_tag) == ("", "", "", "")


def test_a_server_without_cards_needs_no_network_daemon(cloud: Cloud) -> None:
    server_id = cloud.create(networks="none")
    cloud.answer(cloud.next("schedule"))
    assert cloud.pending[0].step == "spawn"
    cloud.settle()
    cloud.delete(server_id)
    cloud.settle()
    cloud.assert_gone(server_id)
