"""The writer: everything that has arrived is done in one transaction, and one sync makes it all durable.

The batch grows with load and shrinks to one when idle. A command that fails is taken back alone; when the disk cannot
take the batch, all of it is refused and nothing of it has happened. A command with a call id is done once: its result
is kept in the same transaction, and its repetition is answered from there. Heavy work has a transaction of its own,
behind everything else that has arrived, so that what is light waits for one piece of it at most. When it cannot be
known whether a commit would survive a power cut, the process must end (``on_broken``): the rows say what is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from nova_fast.commands import registry
from nova_fast.conductor.batches import Batches, MakeBatches, Pause, ThreadedBatches
from nova_fast.conductor.clock import Clock
from nova_fast.conductor.commit_delay import CommitDelay
from nova_fast.conductor.engine import Engine
from nova_fast.edges import REAL, Edges
from nova_fast.model.base import Message
from nova_fast.model.errors import InternalError, NovaFastError, Unavailable
from nova_fast.model.tasks import Done
from nova_fast.model.workflows import Task
from nova_fast.state import schema as tables
from nova_fast.state.store import Store, StoreError
from nova_fast.state.transaction import Transaction, WriteFailed

log = logging.getLogger(__name__)

BATCH_MAX = 512
QUEUE_MAX = 20_000
TOGETHER_MAX = 64  # jobs of one kind; when one of them is refused, all of them are done again one by one
EVENTFUL = 8  # events of a batch behind which more is about to come
HEAVY_MAX = 16  # that wait; each takes up to half a second

Outcome = Message | NovaFastError
Work = Callable[[Transaction], Message]


class Job(msgspec.Struct):
    """One unit of work for the writer, and who waits for it."""

    work: Work
    done: Callable[[Outcome], None]  # called on the loop, after the commit
    call_id: str = ""  # 32 hex; "" = not deduplicated
    must: bool = False  # ends work that is under way, so it is taken however many wait
    heavy: bool = False  # writes as much as hundreds of others
    request: Message | None = None  # what the work does, when it may be done together with others like it


#: Does nothing, but the engine moves on in its transaction.
_GO_ON = Job(work=lambda _tx: Done(), done=lambda _outcome: None, must=True)


class Committed(msgspec.Struct, frozen=True):
    """What a commit brought, besides the answers."""

    commit: int  # its number, as a snapshot has it
    generation: int
    tasks: list[Task]
    events: list[tuple[int, bytes]]


class Writer:
    """Owns the store's write side. Give it jobs from the loop; it answers on the loop."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        decode_result: Callable[[bytes], Message],
        edges: Edges = REAL,
        make_batches: MakeBatches = ThreadedBatches,
    ) -> None:
        self._store = store
        self._engine = engine
        self._decode_result = decode_result
        self._encode = msgspec.msgpack.Encoder().encode
        self.clock = Clock(store, edges)
        self._entropy = edges.entropy
        self._batches: Batches[Job] = make_batches(self._serve, BATCH_MAX)
        self._delay = CommitDelay(self._batches.waiting)
        self._heavy: deque[Job] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._happened = 0  # events of the last batch
        self._trouble = ""  # why the last batch could not be written
        self._refused = 0  # since then
        self._engine_behind = False  # and what it left is committed
        self.on_commit: Callable[[Committed], None] = lambda _committed: None
        self.on_broken: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin to commit; answers come to the running loop."""
        self._loop = asyncio.get_running_loop()
        self._batches.start()

    def stop(self) -> None:
        """Finish what has been given and end. Blocks until then."""
        self._batches.stop()
        while self._heavy:
            self._commit([self._heavy.popleft()])

    def submit(self, job: Job) -> None:
        """Give a job. Refused at once with Unavailable when too many wait."""
        many = self._batches.waiting() >= QUEUE_MAX or (job.heavy and len(self._heavy) >= HEAVY_MAX)
        if many and not job.must:
            job.done(Unavailable("Too many requests are waiting.", code="busy", hint="try again"))
            return
        if job.call_id:
            self._delay.came()
        self._batches.put(job)

    async def run(self, work: Work, call_id: str = "") -> Message:
        """Do one thing and wait for its commit. Raises NovaFastError."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def done(outcome: Outcome) -> None:
            if not future.done():
                future.set_result(outcome)

        self.submit(Job(work=work, done=done, call_id=call_id))
        outcome = await future
        if isinstance(outcome, NovaFastError):
            raise outcome
        return outcome

    # ------------------------------------------------------------------ beside the loop
    def _serve(self, batch: list[Job]) -> Pause | None:
        """Commit what has arrived, then one piece of heavy work; and go on as long as there is something to do.

        How the next batch gathers. It was a crowd when much has happened, as answers to that are about to come, or when
        the engine is behind because of one.
        """
        self._happened = 0
        light = [job for job in batch if not job.heavy]
        self._heavy += [job for job in batch if job.heavy]
        if light:
            self._commit(light)
        if self._heavy:
            self._commit([self._heavy.popleft()])
        if self._heavy or self._engine_behind:
            self._batches.put(_GO_ON)
        commands = sum([job.call_id != "" for job in batch])
        return self._delay.behind(commands, crowd=self._happened >= EVENTFUL or self._engine.crowded)

    def _commit(self, batch: list[Job]) -> None:
        self._engine_behind = False
        outcomes: list[Outcome] = []
        committed: Committed | None = None
        try:
            now_us, steady_us = self.clock.now_us(), self.clock.steady_us()
            with self._store.transaction(now_us, self._entropy, steady_us=steady_us) as tx:
                outcomes = self._do_all(tx, batch)
                commands = sum([job.request is not None for job in batch])
                tasks = self._engine.advance_ready(tx, commands)
                committed = Committed(tx.commit(), tx.generation(), tasks, tx.event_rows)
            self._delay.committed(tx.commit_s)
            self._engine_behind = self._engine.behind
            self._happened += len(tx.events)
        except Unavailable as error:
            outcomes, committed = [error for _ in batch], None
        except StoreError as error:
            self._broken(batch, error)
            return
        except Exception:
            log.exception("a batch of %d could not be done", len(batch))
            if len(batch) > 1:  # what one of them has broken is found when it is alone
                for job in batch:
                    self._commit([job])
                return
            outcomes, committed = [InternalError("An unexpected error occurred.") for _ in batch], None
        self._note_trouble(outcomes, committed)
        self._call_soon(self._deliver, batch, outcomes, committed)

    def _broken(self, batch: list[Job], error: StoreError) -> None:
        """Nobody knows whether this commit would survive. Whoever gave a call id asks the next process and hears it."""
        log.critical("the state cannot be trusted any more: %s", error)
        unsure = Unavailable("The state cannot be written now.", code="store_write_failed", hint="try again later")
        beside = [job for job in batch if not job.call_id]
        self._call_soon(self._deliver, beside, [unsure for _ in beside], None)
        self._call_soon(self.on_broken)

    def _note_trouble(self, outcomes: list[Outcome], committed: Committed | None) -> None:
        """Log why nothing can be written when it begins, when the reason changes and when it ends; not each time."""
        first = outcomes[0] if committed is None else None
        if isinstance(first, Unavailable):
            self._refused += len(outcomes)
            if first.message != self._trouble:
                log.error("%s", first.message)
            self._trouble = first.message
        elif self._trouble and committed is not None:
            log.warning("the state can be written again; %d pieces of work were refused meanwhile", self._refused)
            self._trouble, self._refused = "", 0

    def _call_soon(self, function: Callable[..., None], *arguments: Any) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(function, *arguments)

    def _do_all(self, tx: Transaction, batch: list[Job]) -> list[Outcome]:
        """Do each, in order; several of one kind in a row together."""
        outcomes: list[Outcome] = []
        while len(outcomes) < len(batch):
            alike = _alike(batch, len(outcomes))
            done = self._do_together(tx, alike) if len(alike) > 1 else None
            outcomes += done or [self._do(tx, job) for job in alike]
        return outcomes

    def _do_together(self, tx: Transaction, jobs: list[Job]) -> list[Message] | None:
        """Do jobs as one by one would; None, and nothing has happened, when that is the way."""
        mark = tx.savepoint()
        try:
            if any(tx.get(tables.DONE_COMMANDS, job.call_id) is not None for job in jobs if job.call_id):
                return None
            results = registry.run_together(tx, [job.request for job in jobs if job.request is not None])
            if results is not None:
                done = zip(jobs, results, strict=True)
                tx.insert_all(tables.DONE_COMMANDS, [self._kept(tx, *one) for one in done if one[0].call_id])
                return results
        except WriteFailed:
            raise  # the transaction itself is lost
        except NovaFastError:
            pass  # one of them is refused: each is looked at alone
        except Exception:
            log.exception("%d commands failed together in a way nobody foresaw; each is tried alone", len(jobs))
        tx.rollback(mark)
        return None

    def _kept(self, tx: Transaction, job: Job, result: Message) -> tables.DoneCommand:
        """The result of a command, as it is kept for its repetition."""
        return tables.DoneCommand(call_id=job.call_id, at_us=tx.time_us, result=self._encode(result))

    def _do(self, tx: Transaction, job: Job) -> Outcome:
        mark = tx.savepoint()
        try:
            if job.call_id:
                kept = tx.get(tables.DONE_COMMANDS, job.call_id)
                if kept is not None:
                    return self._decode_result(kept.result)
            result = job.work(tx)
            if job.call_id:
                tx.insert(tables.DONE_COMMANDS, self._kept(tx, job, result))
            return result
        except NovaFastError as error:
            tx.rollback(mark)
            return error
        except WriteFailed:
            raise  # the transaction itself is lost
        except Exception:
            log.exception("a command failed in a way nobody foresaw")
            tx.rollback(mark)
            return InternalError("An unexpected error occurred.")

    def _deliver(self, batch: list[Job], outcomes: list[Outcome], committed: Committed | None) -> None:
        for job, outcome in zip(batch, outcomes, strict=True):
            try:
                job.done(outcome)
            except Exception:  # one that cannot be told must not keep the others from hearing
                log.exception("the outcome of a command could not be delivered")
        if committed is not None:
            self.on_commit(committed)


def _alike(batch: list[Job], begin: int) -> list[Job]:
    """The job at a place, and those behind it that may be done together with it."""
    first = batch[begin]
    found = [first]
    if first.request is None:
        return found
    calls = {first.call_id}
    for job in batch[begin + 1 : begin + TOGETHER_MAX]:
        if type(job.request) is not type(first.request) or (job.call_id and job.call_id in calls):
            break
        calls.add(job.call_id)
        found.append(job)
    return found
