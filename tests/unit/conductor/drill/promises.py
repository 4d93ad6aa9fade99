"""What each recipe promises of its end, whatever has happened: the words of its docstring, as assertions."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from nova_fast.commands.guests import settled_state
from nova_fast.conductor.workflows import RECIPES
from nova_fast.model.servers import Server
from nova_fast.model.states import ACTION_RULES, Action, PowerState, VmState
from nova_fast.model.workflows import Workflow
from tests.unit.conductor.drill.troubles import NONE, Trouble
from tests.unit.conductor.drill.world import World
from tests.unit.recount import assert_nothing_left


class Course(msgspec.Struct, frozen=True):
    """What was asked, of which server as it was then, and what went wrong."""

    server_id: str
    before: Server | None
    workflow: Workflow | None  # None = it was done at once
    trouble: Trouble  # NONE when it never came about


def assert_promises_kept(world: World, course: Course) -> None:
    """Raises AssertionError for a promise that is broken, or for a recipe of which nobody knows what it promises."""
    workflow, trouble = course.workflow, course.trouble
    if trouble.defect:
        _given_up(world, course)
    elif workflow is None or workflow.then:
        _deleted(world, course)
    else:
        assert workflow.kind in PROMISES, f"nobody told the drill what {workflow.kind} promises"
        PROMISES[workflow.kind](world, course)


def _given_up(world: World, course: Course) -> None:
    server = world.server(course.server_id)
    assert (server.vm_state, server.task_state) == (VmState.ERROR, None)
    assert server.fault is not None
    assert "unexpected" in server.fault.message


def _assert_action(world: World, course: Course, *, failed: bool) -> None:
    assert course.workflow is not None
    entry = world.actions(course.server_id)[course.workflow.action]
    assert entry.message == ("Error" if failed else None), f"the action ended as {entry.message}"
    assert [event.result for event in entry.events] == ["Error" if failed else "Success"]
    assert not failed or entry.events[0].details


# ---------------------------------------------------------------------- create
def _created(world: World, course: Course) -> None:
    trouble, server = course.trouble, world.server(course.server_id)
    elsewhere = trouble.once and trouble.step in ("network", "spawn")
    if trouble is NONE or elsewhere:
        assert (server.vm_state, server.task_state) == (VmState.ACTIVE, None)
        assert (server.power_state, server.fault) == (PowerState.RUNNING, None)
        assert server.launched_at_us > 0
        assert server.host == ("h2" if elsewhere else "h1")
        assert {port.status for port in world.ports(server.id)} <= {"ACTIVE"}
        assert {port.host for port in world.ports(server.id)} <= {server.host}
        assert server.id in world.hypervisors[server.host].guests
        _assert_action(world, course, failed=False)
        return
    assert (server.vm_state, server.task_state, server.host) == (VmState.ERROR, None, "")
    assert server.power_state is PowerState.NOSTATE
    assert server.fault is not None
    assert server.fault.message
    assert world.ports(server.id) == [], "it holds ports"
    for hypervisor in world.hypervisors.values():
        assert server.id not in hypervisor.guests, "its guest is there"
    _assert_action(world, course, failed=True)


# ---------------------------------------------------------------------- power
def _powered(world: World, course: Course) -> None:
    workflow, before, server = course.workflow, course.before, world.server(course.server_id)
    assert workflow is not None
    assert before is not None
    assert server.task_state is None
    assert server.host == before.host
    rule = ACTION_RULES[Action(workflow.action), workflow.hard]
    if course.trouble is NONE:
        assert (server.vm_state, server.fault) == (rule.result, None)
        _assert_action(world, course, failed=False)
        return
    _assert_action(world, course, failed=True)
    if workflow.hard:
        assert server.vm_state is VmState.ERROR
        assert server.fault is not None
        return
    there = world.hypervisors[server.host].guests[server.id]
    shown = before.vm_state if there == before.power_state else settled_state(before.vm_state, there)
    assert server.vm_state is shown, (
        f"it was {before.vm_state}, its guest is {there.name}, it is shown {server.vm_state}"
    )
    assert server.fault == before.fault


# ---------------------------------------------------------------------- delete
def _deleted(world: World, course: Course) -> None:
    trouble = course.trouble
    asked = trouble.reply is not None  # what its host does not do it finds out later
    own = trouble.step in [step.name for step in RECIPES["delete_server"].steps]  # what went wrong before is forgotten
    if trouble is NONE or asked or not own:
        assert_gone(world, course.server_id)
        return
    server = world.server(course.server_id)
    assert (server.vm_state, server.task_state) == (VmState.ERROR, None)
    assert course.before is None or server.host == course.before.host, "it gave its host back, but not its guest"
    assert server.fault is not None
    assert world.actions(server.id)[Action.DELETE].message == "Error"


def assert_gone(world: World, server_id: str) -> None:
    """Nothing of any server is left, in the store and on the hosts."""
    assert world.find(server_id) is None
    world.store.read(assert_nothing_left)
    for host, hypervisor in world.hypervisors.items():
        assert hypervisor.guests == {}, f"{host} has guests of nobody"
        assert hypervisor.remains == set(), f"{host} has files of nobody"


PROMISES: dict[str, Callable[[World, Course], None]] = {
    "create_server": _created,
    "power_server": _powered,
    "delete_server": _deleted,
}
