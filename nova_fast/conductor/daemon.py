"""nova-conductor: opens the store for writing, meets the other daemons at the hub, and serves until told to stop."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from nova_fast.commands import registry
from nova_fast.commands.hosts import record_service_report
from nova_fast.conductor.batches import MakeBatches, ThreadedBatches
from nova_fast.conductor.bootstrap import bootstrap
from nova_fast.conductor.dispatcher import Dispatcher
from nova_fast.conductor.engine import Engine
from nova_fast.conductor.events import EventLog
from nova_fast.conductor.reports import Reports
from nova_fast.conductor.trim import trim
from nova_fast.conductor.writer import Committed, Job, Outcome, Writer
from nova_fast.config import Config
from nova_fast.daemon import run_daemon, settle_memory
from nova_fast.edges import REAL, Edges
from nova_fast.hub.contracts import decoder_of
from nova_fast.hub.local import local_server_keys
from nova_fast.hub.server import HubServer, Incoming
from nova_fast.model.base import Message
from nova_fast.model.commands import COMMANDS, RESULTS
from nova_fast.model.commands.keyed import KeyedCommand
from nova_fast.model.commands.servers import CreateServers
from nova_fast.model.errors import NovaFastError, Unavailable
from nova_fast.model.tasks import Done, ServiceReport
from nova_fast.state.store import Store, StoreError
from nova_fast.state.transaction import Transaction

log = logging.getLogger(__name__)

HOUSEKEEPING_S = 10
TRIM_PASSES_MAX = 50  # in one round, each a transaction of its own
HEAVY_SERVERS = 256  # a request for more is done behind what is light
LOST_AFTER_US = 5_000_000  # behind its deadline a task that nobody has failed is lost


def main(config: Config) -> int:
    """Run the conductor in the foreground. Returns the exit code."""

    async def serve(stop: asyncio.Event) -> int:
        try:
            store = Store.open(config.store_path)
        except StoreError as error:
            log.error("%s", error)
            return 1
        try:
            return await Conductor(config, store).run(stop)
        finally:
            store.close()

    return run_daemon(config, serve)


class Conductor:
    """The daemon: writer, hub and dispatcher put together."""

    def __init__(
        self, config: Config, store: Store, edges: Edges = REAL, make_batches: MakeBatches = ThreadedBatches
    ) -> None:
        registry.load_all()
        self._config = config
        self._edges = edges
        self._store = store
        self._engine = Engine(config.conductor.task_timeout_s)
        self._writer = Writer(store, self._engine, decoder_of(RESULTS).decode, edges, make_batches)
        keys = local_server_keys(config)
        self._events = EventLog(store)
        self._hub = HubServer(
            config.hub_address,
            local_address=config.hub_local_address,
            config=config.hub,
            keys=keys,
            events=self._events,
            edges=edges,
        )
        self._dispatcher = Dispatcher(store, self._writer, self._engine, self._hub)
        self._reports = Reports(store, self._writer, self._engine, self._hub)
        self._broken = False
        self._bootstrapped = False

    async def run(self, stop: asyncio.Event) -> int:
        """Serve until ``stop`` is set. Returns the exit code: 1 when the store failed and must be opened anew."""

        def broken() -> None:
            self._broken = True
            stop.set()

        self._writer.on_commit = self._committed
        self._writer.on_broken = broken
        self._writer.start()
        await self._bootstrap()
        self._hub.handle_batch(COMMANDS, self._commands)
        self._reports.register()
        self._hub.on_peer_up = self._peer_up
        self._hub.on_peer_down = lambda peer: self._reports.peer_up_or_down(peer, up=False)
        await self._hub.start()
        self._dispatcher.resume()
        settle_memory()
        log.info("nova-conductor serves at %s", self._config.hub_address)
        asyncio.get_running_loop().call_later(2 * self._config.hub.down_after_s, self._missing_are_down, stop)
        try:
            while not stop.is_set():
                await self._housekeeping()
                try:
                    await asyncio.wait_for(stop.wait(), HOUSEKEEPING_S)
                except TimeoutError:
                    continue
        finally:
            await self._dispatcher.close()
            await self._hub.close()
            await asyncio.to_thread(self._writer.stop)
        return 1 if self._broken else 0

    async def _bootstrap(self) -> None:
        """A cloud that is there serves reads, and says what is wrong, while its disk cannot be written."""
        try:
            await bootstrap(self._config, self._store, self._writer, self._edges)
            self._bootstrapped = True
        except Unavailable:
            with self._store.snapshot() as snapshot:
                if snapshot.identity_generation() == 0:
                    raise

    def _missing_are_down(self, stop: asyncio.Event) -> None:
        if not stop.is_set():
            self._reports.missing_are_down()

    def _committed(self, committed: Committed) -> None:
        self._dispatcher.committed(committed)
        self._events.committed(committed.events)
        self._hub.notify_events(committed.generation)

    def _commands(self, calls: list[Incoming]) -> None:
        """All commands that arrived together go to the writer together."""
        for call in calls:
            self._writer.submit(_job(call))

    def _peer_up(self, peer: str, new_session: bool) -> None:
        self._reports.peer_up_or_down(peer, up=True)
        kind, _, host = peer.partition("@")
        if kind == "network" and new_session:
            self._dispatcher.networks.renew(host)

    async def _housekeeping(self) -> None:
        """Every few seconds; at the start it moves on whatever was ready when the last process ended."""
        config = self._config
        if not self._bootstrapped:
            await self._bootstrap()
        report = ServiceReport(name="conductor", binary="nova-conductor", host=config.host_name, zone="internal")

        more = False

        def work(tx: Transaction) -> Message:
            record_service_report(tx, report)
            self._engine.hosts_down(tx)
            self._engine.expire(tx, tx.time_us - LOST_AFTER_US)
            return Done()

        def drop(tx: Transaction) -> Message:
            nonlocal more
            more = trim(tx)
            return Done()

        try:
            await self._writer.run(work)
            for _ in range(TRIM_PASSES_MAX):
                await self._writer.run(drop)
                if not more:
                    break
        except NovaFastError as error:
            log.debug("housekeeping waits: %s", error)  # the writer has said it
        self._store.reader_check()


def _job(call: Incoming) -> Job:
    request = call.message

    def done(outcome: Outcome) -> None:
        call.reply(outcome)

    heavy = servers_asked(request) > HEAVY_SERVERS
    return Job(
        work=lambda tx: registry.run(tx, request),
        done=done,
        call_id=call.call_id.hex(),
        heavy=heavy,
        request=request if registry.is_done_together(request) else None,
    )


class _Asked(msgspec.Struct):
    """All of a command that is looked at here."""

    max_count: int = 1


_asked = msgspec.msgpack.Decoder(_Asked).decode


def servers_asked(request: Message) -> int:
    """How many servers a command may make, also one under an Idempotency-Key."""
    if isinstance(request, KeyedCommand):
        try:
            return _asked(request.command).max_count
        except msgspec.MsgspecError:  # it is refused when it is done, alone
            return 0
    return request.max_count if isinstance(request, CreateServers) else 0
