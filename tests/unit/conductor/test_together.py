"""Commands of one kind that arrive together are done together, and nobody can tell: each ends as it would alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from nova_fast.commands import create_servers, registry
from nova_fast.conductor.writer import Job, Outcome, Writer
from nova_fast.hub.contracts import decoder_of
from nova_fast.model.base import Message
from nova_fast.model.commands import RESULTS
from nova_fast.model.commands.servers import CreateServers, RequestedNic, ServersCreated
from nova_fast.model.errors import InternalError, NovaFastError
from nova_fast.model.quotas import Quota, Usage
from nova_fast.model.tasks import Done
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.testing import memory_store
from nova_fast.state.transaction import Transaction
from tests.lengths import repeats
from tests.unit.conductor.player import ALICE, BOB, Cloud
from tests.unit.recount import assert_nothing_leaks


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with memory_store() as store:
        yield Cloud(store)


class Scribe:
    """A writer without its thread: a batch is committed when it is given."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.writer = Writer(cloud.store.store, cloud.engine, decoder_of(RESULTS).decode)
        self.writer._call_soon = lambda function, *arguments: function(*arguments)  # type: ignore[method-assign]

    def do(self, requests: list[Message], call_ids: list[str], *, alone: bool) -> list[Outcome]:
        outcomes: list[Outcome] = []
        jobs = [
            Job(
                work=lambda tx, request=request: registry.run(tx, request),
                done=outcomes.append,
                call_id=call_id,
                request=None if alone or not registry.is_done_together(request) else request,
            )
            for request, call_id in zip(requests, call_ids, strict=True)
        ]
        self.writer._commit(jobs)
        return outcomes


def _wishes(cloud: Cloud, rng: random.Random) -> list[Message]:
    """Of two projects, some of them wrong, some in need of an address, most of them alike."""
    kinds: list[dict[str, Any]] = [
        {}, {}, {}, {"networks": "none"}, {"networks": (RequestedNic(network_id=cloud.network_id),)},
        {"flavor_id": "nothing"}, {"image_id": "nothing"}, {"metadata": {"a": "b"}}, {"tags": ("b", "a", "b")},
        {"user_data": b"#!"}, {"max_count": 3, "min_count": 2, "multi_name": True}, {"key_name": "nobody's"},
        {"config_drive": True, "admin_password": "x"}, {"networks": (RequestedNic(network_id="nowhere"),)},
        {"zone": "nova"}, {"zone": "nowhere"}, {"hostname": "h.example"}, {"name": "Ein Name"},
    ]  # fmt: skip
    usual = rng.choice(({}, {}, rng.choice(kinds)))
    wishes: list[Message] = []
    for number in range(rng.randint(2, 12)):
        fields = {"name": f"s{number}", "networks": "none", "admin_password": f"p{number}"} | (
            usual if rng.random() < 0.85 else rng.choice(kinds)
        )
        caller = msgspec.structs.replace(
            rng.choice((ALICE, ALICE, BOB)), request_id=f"req-{number}" * rng.randint(0, 1)
        )
        wishes.append(cloud.wish(caller, **fields))
    return wishes


_RANDOM_FIELDS = {"reservation_id": "", "created_at_us": 0, "updated_at_us": 0}


def _picture(reader: Reader, outcomes: list[Outcome]) -> Any:
    """All that a batch has come to, with the random parts of it named by what they belong to."""
    servers = sorted(reader.scan(tables.SERVERS), key=lambda server: server.number)
    names = {server.id: f"server {server.number}" for server in servers}
    reservations = {server.reservation_id: f"reservation {server.number}" for server in servers}

    def told(outcome: Outcome) -> Any:
        if isinstance(outcome, ServersCreated):
            # all of a request have one reservation: it is named by the last of them
            return [names[one] for one in outcome.server_ids], reservations[outcome.reservation_id]
        assert isinstance(outcome, NovaFastError)
        return type(outcome), outcome.message, outcome.code, outcome.field, outcome.hint, outcome.details

    def bare(record: Any, **fields: Any) -> Any:
        return msgspec.structs.replace(record, **fields)

    return (
        [told(outcome) for outcome in outcomes],
        [bare(s, id=names[s.id], **_RANDOM_FIELDS) for s in servers],
        [
            [bare(a, server_id="", start_at_us=0,
                  updated_at_us=0, events=len(a.events)) for a in reader.scan(tables.SERVER_ACTIONS, s.id)
             if a.request_id.count("-") == 1]
            for s in servers
        ],
        [
            bare(w, server_id="", task_id="", started_at_us=0, request_id="")
            for s in servers if (w := reader.get(tables.WORKFLOWS, s.id)) is not None
        ],
        [
            (port.network_id, port.index, port.device_owner, len(port.fixed_ips), len(port.security_groups))
            for s in servers for port in reader.select(tables.PORTS_BY_DEVICE, s.id)
        ],
        [reader.get(tables.USER_DATA, s.id) is not None for s in servers],
        sorted((task.peer, task.step, names[task.server_id]) for task in reader.scan(tables.TASKS)),
        list(reader.scan(tables.USAGES)), reader.size(tables.DONE_COMMANDS), reader.counters(),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(repeats(60, 1500)))
def test_creates_that_come_together_are_what_each_would_be_alone(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(seed)
    pictures = []
    for alone in (False, True):
        rng.seed(seed)
        with memory_store() as store:
            cloud = Cloud(store)
            store.run(
                lambda tx: tx.put(
                    tables.QUOTAS, Quota(project_id=ALICE.project_id, limits={"instances": rng.randint(1, 9)})
                )
            )
            scribe = Scribe(cloud)
            outcomes: list[Outcome] = []
            for batch in range(2):
                wishes = _wishes(cloud, rng)
                calls = [f"{batch}{number:031}" for number in range(len(wishes))]
                if rng.random() < 0.3:
                    calls[-1] = calls[0]  # it is told twice
                elif rng.random() < 0.3:
                    calls[-1] = ""
                elif rng.random() < 0.3:
                    calls[-1] = f"0{0:031}"  # and of a batch before, perhaps
                outcomes += scribe.do(wishes, calls, alone=alone)
            for _ in range(4):  # a crowd waits for its turn
                cloud.commit(lambda _tx: Done())
            assert not cloud.engine.behind
            store.read(assert_nothing_leaks)
            pictures.append(store.read(lambda reader, outcomes=outcomes: _picture(reader, outcomes)))
    assert pictures[0] == pictures[1]
    assert caplog.records == []


def test_they_are_really_done_together(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = registry.run_together
    monkeypatch.setattr(
        registry, "run_together", lambda tx, requests: (seen.append(len(requests)), real(tx, requests))[1]
    )
    monkeypatch.setattr(Writer, "_do", lambda self, tx, job: pytest.fail("one by one"))
    outcomes = Scribe(cloud).do([cloud.wish(networks="none") for _ in range(5)], ["a", "b", "c", "d", "e"], alone=False)
    assert seen == [5]
    assert [type(outcome) for outcome in outcomes] == [ServersCreated] * 5
    assert len({outcome.reservation_id for outcome in outcomes if isinstance(outcome, ServersCreated)}) == 5


def test_what_is_alike_is_looked_at_once(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a client's POSTs are: each has a name, a request id and a password of its own."""
    looks: list[Message] = []
    look = create_servers._batch
    monkeypatch.setattr(create_servers, "_batch", lambda tx, request: (looks.append(request), look(tx, request))[1])
    callers = [msgspec.structs.replace(ALICE, request_id=f"req-{number}") for number in range(5)]
    wishes = [
        cloud.wish(caller, name=f"s{number}", admin_password=f"p{number}", networks="none")
        for number, caller in enumerate(callers)
    ]
    outcomes = Scribe(cloud).do([*wishes, cloud.wish(ALICE, networks="none", tags=("a",))], [""] * 6, alone=False)
    assert [type(one) for one in outcomes] == [ServersCreated] * 6
    assert len(looks) == 2
    assert len({one.reservation_id for one in outcomes}) == 6  # type: ignore[union-attr]


def test_what_a_command_breaks_at_the_commit_is_not_the_others(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    """A row that is there already is found when it is written: behind the command that should not have written it."""
    cloud.store.run(lambda tx: tx.put(tables.USAGES, Usage(project_id="p", instances=7)))
    outcomes: list[Outcome] = []

    def broken(tx: Transaction) -> Message:
        tx.insert(tables.USAGES, Usage(project_id="p"))
        return Done()

    scribe = Scribe(cloud)
    wish = cloud.wish()
    jobs = [Job(work=lambda tx: registry.run(tx, wish), done=outcomes.append, call_id=call) for call in ("a", "b")]
    scribe.writer._commit([jobs[0], Job(work=broken, done=outcomes.append), jobs[1]])
    assert [type(outcome) for outcome in outcomes] == [ServersCreated, InternalError, ServersCreated]
    assert cloud.store.read(lambda r: (r.size(tables.SERVERS), r.need(tables.USAGES, "p", "x").instances)) == (2, 7)
    assert len(caplog.records) == 2


def test_creates_of_a_group_are_not_done_together(cloud: Cloud) -> None:
    wish = CreateServers(caller=ALICE, name="a", image_id="i", flavor_id="f", networks="none", group_id="g")
    with cloud.store.store.transaction(1) as tx:
        assert registry.run_together(tx, [wish, wish]) is None


def test_a_batch_in_which_much_happens_is_a_crowd(cloud: Cloud) -> None:
    writer = Scribe(cloud).writer
    writer._batches.put = lambda item: None  # type: ignore[method-assign]

    def serve(count: int) -> bool:
        wish = cloud.wish(networks="none", min_count=count, max_count=count)
        pause = writer._serve([Job(work=lambda tx: registry.run(tx, wish), done=lambda _outcome: None)])
        return pause is not None

    assert [serve(1), serve(8), serve(1)] == [False, True, False]
