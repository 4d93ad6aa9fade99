"""Keeps the network daemon of every host at the wanted state.

Level-triggered: for each host there is the generation at which its wanted networks last changed and the one last
applied. Whenever they differ the host is told its whole wanted state, one message at a time; whatever changed meanwhile
goes into the next. A host on which nothing waits is told no more often than every so often: that others have ports in
its groups is news with each server of a project. And when many hosts want to be told at once each has its turn a
little later, with more in it.

A task that waits for a host's network is answered when a generation not older than its own has been applied, and fails
at its own deadline whether or not the host's daemon is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

import msgspec

from nova_fast.commands.host_networks import record_applied
from nova_fast.conductor.clock import Clock
from nova_fast.conductor.writer import Outcome, Work
from nova_fast.hub.server import HubServer
from nova_fast.model.base import Message
from nova_fast.model.errors import Conflict, NovaFastError, Unavailable
from nova_fast.model.tasks import Done, NetworksApplied
from nova_fast.model.workflows import Task
from nova_fast.queries.host_networks import Known, wanted_generation, wanted_networks
from nova_fast.queries.ports import server_ports
from nova_fast.state import schema as tables
from nova_fast.state.store import Store
from nova_fast.state.transaction import Transaction

log = logging.getLogger(__name__)

APPLY_TIMEOUT_S = 60
RETRY_S = 1.0
RETRY_S_MAX = 30.0
LOOK_S = 1.0  # how late a deadline may be noticed
UNHURRIED_S = 0.25  # between two messages to a host on which nothing waits
#: PERF: of the loop's time, about what it may take to make the states of hosts on which somebody waits. A state is
#: whole, so one for four servers costs what one for each of them does.
MAKING_SHARE = 0.25
PACE_S_MAX = 2.0
_LIKE_BEFORE = 0.9  # of the time that the last states took


class Dispatching(Protocol):
    """What this needs of the dispatcher."""

    def answer(self, task: Task, outcome: Outcome) -> None:
        """Bring the answer of a task into the store."""

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run something beside."""


class _Host(msgspec.Struct):
    """What is known of one host's synchronisation."""

    busy: bool = False
    dirty: bool = False
    session: int = 0  # grows with each process of its daemon
    told_s: float = float("-inf")  # of the loop's clock, when it was last told
    applied: int = -1  # by the daemon that is connected now
    unrecorded: bool = False  # the store does not know of that yet
    waiting: list[Task] = msgspec.field(default_factory=list)
    failed: dict[str, str] = msgspec.field(default_factory=dict)
    trouble: str = ""  # what was last logged


class NetworkSync:
    """Runs on the conductor's loop."""

    def __init__(
        self,
        store: Store,
        record: Callable[[Work], Awaitable[None]],
        hub: HubServer,
        dispatching: Dispatching,
        clock: Clock,
    ) -> None:
        self._store = store
        self._record = record
        self._hub = hub
        self._dispatching = dispatching
        self._clock = clock
        self._hosts: dict[str, _Host] = {}
        self._known = Known()
        self._making_s = 0.0  # one host's state, as of late
        self._syncing = 0  # hosts
        self._deadlines: asyncio.TimerHandle | None = None
        self._unhurried: dict[str, _Host] = {}  # to be told when the timer ends
        self._soon: asyncio.TimerHandle | None = None

    def wait(self, task: Task) -> None:
        """Answer this task when its host has applied its generation."""
        name = task.peer.partition("@")[2]
        host = self._hosts.setdefault(name, _Host())
        host.waiting.append(task)
        if host.applied >= task.generation and not host.failed:
            self._settle(host)
        else:
            self.touch(name)
            self._watch_deadlines()

    def after_commit(self) -> None:
        """Start on every host whose wanted state has changed."""
        with self._store.snapshot() as snapshot:
            dirty = [row.host for row in snapshot.scan_index(tables.HOST_NETWORKS_DIRTY)]
        loop = asyncio.get_running_loop()
        for name in dirty:
            host = self._hosts.setdefault(name, _Host())
            if host.waiting or host.failed or loop.time() - host.told_s >= UNHURRIED_S:
                self.touch(name)
            else:
                self._unhurried[name] = host
        if self._unhurried and self._soon is None:
            self._soon = loop.call_later(UNHURRIED_S, self._touch_unhurried)

    def renew(self, name: str) -> None:
        """A new network daemon has come up on this host: it must be told everything."""
        host = self._hosts.setdefault(name, _Host())
        host.session += 1
        host.applied = -1
        host.unrecorded = False
        self.touch(name)

    def touch(self, name: str) -> None:
        """Make sure that a host is, or will be, told the state of now."""
        host = self._hosts.setdefault(name, _Host())
        host.dirty = True
        if not host.busy:
            host.busy = True
            self._dispatching.spawn(self._sync(name, host))

    def close(self) -> None:
        """Look at no deadline any more, and tell nobody anything."""
        for timer in (self._deadlines, self._soon):
            if timer is not None:
                timer.cancel()

    def _touch_unhurried(self) -> None:
        self._soon = None
        names, self._unhurried = self._unhurried, {}
        for name in names:
            self.touch(name)

    async def _sync(self, name: str, host: _Host) -> None:
        pause_s = RETRY_S
        self._syncing += 1
        try:
            while host.dirty:
                await self._in_its_time(host)
                host.dirty = False
                done = await self._apply(name, host)
                self._settle(host)
                if done:
                    pause_s = RETRY_S
                    continue
                host.dirty = True  # though nobody may wait for it and the store think it done: a machine can forget
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_S_MAX)
        finally:
            host.busy = False
            self._syncing -= 1

    async def _in_its_time(self, host: _Host) -> None:
        """Not so soon behind the last time that the loop does nothing else while many hosts want to be told."""
        pace_s = min(self._syncing * self._making_s / MAKING_SHARE, PACE_S_MAX)
        wait_s = host.told_s + pace_s - asyncio.get_running_loop().time()
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    async def _apply(self, name: str, host: _Host) -> bool:
        """Tell the host its wanted state once; whether it has all been done."""
        with self._store.snapshot() as snapshot:
            if host.applied >= wanted_generation(snapshot, name) and not host.failed:
                wanted = None
            else:
                begin_us = self._clock.steady_us()
                wanted = wanted_networks(snapshot, name, self._known)
                took_s = (self._clock.steady_us() - begin_us) / 1_000_000
                self._making_s = _LIKE_BEFORE * self._making_s + (1 - _LIKE_BEFORE) * took_s
        if wanted is None:
            return not host.unrecorded or await self._note(name, host)
        session, host.told_s = host.session, asyncio.get_running_loop().time()
        try:
            applied = await self._hub.call(f"network@{name}", wanted, timeout_s=APPLY_TIMEOUT_S)
        except NovaFastError as error:
            _tell(name, host, f"could not be applied: {error}")
            return False
        assert isinstance(applied, NetworksApplied), f"network@{name} answered {type(applied).__name__}"
        if session != host.session:  # the answer of a process that is gone
            host.dirty = True
            return True
        host.applied = applied.generation
        host.failed = applied.failed
        _tell(name, host, "; ".join(f"network {network}: {why}" for network, why in sorted(applied.failed.items())))
        self._settle(host)  # who waits need not wait for the note
        return not applied.failed and await self._note(name, host)

    async def _note(self, name: str, host: _Host) -> bool:
        """Record what has been applied; whether that could be done."""
        generation, host.unrecorded = host.applied, True

        def work(tx: Transaction) -> Message:
            record_applied(tx, name, generation)
            return Done()

        try:
            await self._record(work)
        except NovaFastError as error:
            log.warning("the applied networks of %s could not be recorded: %s", name, error)
            return False
        host.unrecorded = False
        return True

    # ------------------------------------------------------------------ who waits
    def _settle(self, host: _Host) -> None:
        """Answer the tasks that need wait no longer."""
        time_us = self._clock.steady_us()
        still: list[Task] = []
        for task in host.waiting:
            failure = self._failure_of(host, task)
            if failure is not None:
                self._dispatching.answer(task, failure)
            elif host.applied >= task.generation:
                self._dispatching.answer(task, Done())
            elif task.deadline_us <= time_us:
                late = Unavailable(f"The network daemon {task.peer} did not answer.", code="network_timeout")
                self._dispatching.answer(task, late)
            else:
                still.append(task)
        host.waiting = still

    def _failure_of(self, host: _Host, task: Task) -> NovaFastError | None:
        """Why the server of a task cannot have its network, if one of its own networks failed."""
        if not host.failed or host.applied < task.generation:
            return None
        with self._store.snapshot() as snapshot:
            own = {port.network_id for port in server_ports(snapshot, task.server_id)}
        for network_id in sorted(own & host.failed.keys()):
            why = host.failed[network_id]
            return Conflict(f"Network {network_id} could not be set up: {why}", code="network_failed")
        return None

    def _watch_deadlines(self) -> None:
        if self._deadlines is None:
            self._deadlines = asyncio.get_running_loop().call_later(LOOK_S, self._look_at_deadlines)

    def _look_at_deadlines(self) -> None:
        self._deadlines = None
        time_us = self._clock.steady_us()
        for host in self._hosts.values():
            if any(task.deadline_us <= time_us for task in host.waiting):
                self._settle(host)
        if any(host.waiting for host in self._hosts.values()):
            self._watch_deadlines()


def _tell(name: str, host: _Host, trouble: str) -> None:
    """Log what is wrong with a host when it begins, changes and ends, not every time it is tried."""
    if trouble and trouble != host.trouble:
        log.warning("the networks of %s: %s", name, trouble)
    elif host.trouble and not trouble:
        log.info("the networks of %s are as they should be again", name)
    host.trouble = trouble
