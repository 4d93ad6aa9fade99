"""One walk from the start of a workflow to its end, with a trouble and a fault, and what is there afterwards."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec

from nova_fast.model.events import Event, HostChanged, Released
from nova_fast.model.workflows import Task
from nova_fast.state import schema as tables
from tests.unit.conductor.drill import troubles
from tests.unit.conductor.drill.faults import Fault, changes_nothing, losing
from tests.unit.conductor.drill.troubles import Trouble
from tests.unit.conductor.drill.world import HOSTS, Reply, World

TASKS_MAX = 60
EVERYWHERE, EVERY_UNDO = -1, -2  # in place of the number of a task

#: What a workflow may change.
_CHANGING = (
    tables.SERVERS, tables.PORTS, tables.SERVER_ACTIONS, tables.USER_DATA, tables.WORKFLOWS, tables.TASKS,
    tables.USAGES, tables.HOST_USAGE, tables.HOSTS,
)  # fmt: skip
#: What may be told otherwise when a host went down meanwhile: the words (which hosts were left), how often a port was.
_WORDS = frozenset({"details", "message", "hint", "revision"})


class Asked(msgspec.Struct, frozen=True):
    """A task of a walk."""

    kind: str
    step: str
    direction: str


class Walk:
    """Plays the daemons of one server's workflow until nothing is asked any more."""

    def __init__(self, world: World, trouble: Trouble, fault: Fault | None = None, at: int = EVERYWHERE) -> None:
        self.world = world
        self.trouble = trouble
        self.late: list[tuple[Task, Reply]] = []
        self.trace: list[Asked] = []
        self.faults = 0
        self.struck = False
        self.last = Reply("deadline")
        self._strikes: set[str] = set()
        self._fault = fault
        self._at = at

    def run(self) -> None:
        world = self.world
        while world.pending:
            assert len(self.trace) < TASKS_MAX, "it does not end"
            task = world.pending.pop(0)
            if not world.waits(task):
                continue
            late = list(self.late)
            self._one(task)
            if world.waits(task) and task not in world.pending:
                world.pending.append(task)  # a host that is gone: its deadline will come
            for old, reply in late:
                changes_nothing(self, old, reply)

    @property
    def ever_struck(self) -> bool:
        """Whether the trouble has come about."""
        return bool(troubles.RAISED if self.trouble.spoilt else self._strikes)

    def _one(self, task: Task) -> None:
        workflow = self.world.workflow(task.server_id)
        assert workflow is not None
        number, self.struck = len(self.trace), False
        self.trace.append(Asked(workflow.kind, task.step, workflow.direction))
        here = self._at in (EVERYWHERE, number) or (self._at == EVERY_UNDO and workflow.direction == "unwind")
        if self._fault is not None and here:
            self.faults += 1
            self._fault(self, task)
        else:
            self.world.take(task, self.reply(task))

    def reply(self, task: Task) -> Reply:
        """Let the daemon do the task, well or badly; how it ends."""
        workflow = self.world.workflow(task.server_id)
        assert workflow is not None
        others = len(self._strikes - {task.id})
        if self.trouble.strikes(task, workflow.direction, others):
            self.struck = True
            self._strikes.add(task.id)
            self.last = self.trouble.strike(self.world, task)
        else:
            self.last = self.world.tell(task)
        return self.last

    def restart(self, task: Task) -> None:
        """The conductor dies while a task waits: it is found again, and says the same."""
        before = self.world.message(task)
        self.world.restart()
        assert self.world.pending == [task], f"after a restart {self.world.pending} is asked, not {task}"
        assert self.world.message(task) == before, f"after a restart {task.step} says something else"
        self.world.pending.clear()

    def lose(self, task: Task, reply: Reply) -> None:
        """Record it in a transaction that is lost."""
        losing(self, task, reply)


class End(msgspec.Struct, frozen=True):
    """What is there when nothing is asked any more."""

    rows: dict[str, Any]
    events: list[Any]

    def differs(self, other: End, *, loose: bool, events: bool) -> str:
        """What is not the same, in words; "" = nothing."""
        for name, rows in self.rows.items():
            mine, others = (_plain(part, _WORDS if loose else frozenset()) for part in (rows, other.rows[name]))
            if mine != others:
                return f"{name} ends as {others}, undisturbed as {mine}"
        if events and self.events != other.events:
            return f"it is told of {other.events}, undisturbed of {self.events}"
        return ""


def end_of(world: World) -> End:
    """Let every host be back and be heard, then look.

    What is told again at once is told once: a server has changed then in what events do not name (its power state), and
    when a host sees that depends on who is late.
    """
    told = [_plain(event, frozenset()) for event in world.events if not _is_noise(event)]
    events = [event for event, _ in itertools.groupby(told)]
    for host in HOSTS:
        world.host_returns(host)
    world.assert_world_agrees()
    rows = world.store.read(lambda r: {table.name: list(r.scan(table)) for table in _CHANGING})
    return End(rows=rows, events=events)


def _is_noise(event: Event) -> bool:
    return isinstance(event, HostChanged) or (isinstance(event, Released) and not event.host)


def _plain(value: Any, without: frozenset[str]) -> Any:
    """A value without its times: only whether there is one."""
    if isinstance(value, msgspec.Struct):
        fields = ((name, getattr(value, name)) for name in value.__struct_fields__ if name not in without)
        return {name: bool(part) if name.endswith("_at_us") else _plain(part, without) for name, part in fields}
    if isinstance(value, (list, tuple)):
        return [_plain(part, without) for part in value]
    if isinstance(value, dict):
        return {key: _plain(part, without) for key, part in value.items()}
    return value
