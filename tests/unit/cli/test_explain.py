"""``nova-fast explain`` on real stores."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from nova_fast.model.decisions import PlacementDecision
from nova_fast.model.hosts import Claim
from nova_fast.model.servers import Fault, Server
from nova_fast.model.tasks import HostWeight
from nova_fast.state import schema as tables
from nova_fast.state.store import Store
from tests.unit.cli.place import Place

CLAIM = Claim(vcpus=2, ram_mib=512, disk_gib=0, resources={"CUSTOM_GPU": 1})


def servers(place: Place) -> list[Server]:
    store = Store.open(place.path, readonly=True)
    try:
        with store.snapshot() as snapshot:
            return list(snapshot.scan(tables.SERVERS))
    finally:
        store.close()


def put(place: Place, server: Server, decision: PlacementDecision | None = None) -> None:
    def work(tx: object) -> None:
        tx.put(tables.SERVERS, server)  # type: ignore[attr-defined]
        if decision is not None:
            tx.put(tables.PLACEMENT_DECISIONS, decision)  # type: ignore[attr-defined]

    place.write(lambda made: made.run(work))


def made(server: Server, host: str) -> PlacementDecision:
    top = (HostWeight("h9", 2.5), HostWeight(host, 1.25))
    return PlacementDecision(
        server_id=server.id, decided_at_us=1_000_000, host=host, weight=1.25, candidates=17, policy="filter",
        claim=CLAIM, top=top, excluded_hosts=("h3",),
    )  # fmt: skip


def test_a_decision_is_told_by_id_and_by_name(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    server = msgspec.structs.replace(servers(place)[0], name="unique")
    put(place, server, made(server, server.host))
    assert place.run("explain", server.id) == 0
    said = capsys.readouterr().out
    assert said.splitlines() == [
        f"Server unique ({server.id}) is on {server.host}.",
        f"1970-01-01T00:00:01Z: {server.host} was chosen of 17 candidates, by policy filter.",
        "Claim: VCPU 2, MEMORY_MB 512, CUSTOM_GPU 1",
        "Tried before: h3",
        "      WEIGHT  HOST",
        "         2.5  h9",
        f"        1.25  {server.host} *",
    ]
    assert place.run("explain", "unique") == 0
    assert capsys.readouterr().out == said
    assert place.run("explain", "unique", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["host"], told["decision"]["candidates"], len(told["decision"]["top"])) == (server.host, 17, 2)


def test_a_server_that_got_no_host_tells_what_the_filters_removed(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    why = "No valid host was found. RamFilter removed 3 of 3. With 2048 MiB less RAM: 2 hosts would fit."
    fault = Fault(code=500, message=why, details=why, created_at_us=2_000_000)
    server = msgspec.structs.replace(servers(place)[0], host="", fault=fault)
    put(place, server)
    assert place.run("explain", server.id) == 0
    said = capsys.readouterr().out
    assert "has no host." in said
    assert f"1970-01-01T00:00:02Z: {why}" in said
    put(place, server, made(server, "h9"))
    assert place.run("explain", server.id) == 0
    assert "h9 was chosen of 17 candidates, by policy filter; it could not be built there." in capsys.readouterr().out


def test_what_was_not_kept_is_said(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    server = servers(place)[0]
    for candidates, sentence in ((3, "placed with others at once"), (0, "told again what it had chosen before")):
        put(place, server, msgspec.structs.replace(made(server, server.host), top=(), candidates=candidates))
        assert place.run("explain", server.id) == 0
        assert sentence in capsys.readouterr().out


def test_a_name_that_is_not_there_or_not_unique_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (msgspec.structs.replace(server, name="twin") for server in servers(place)[:2])
    put(place, first)
    put(place, second)
    assert place.run("explain", "twin") == 1
    said = capsys.readouterr().err
    assert "2 servers are named twin." in said and first.id in said and second.id in said
    assert place.run("explain", "nobody") == 1
    assert "There is no server nobody." in capsys.readouterr().err


def test_without_a_store_nothing_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Place(tmp_path).run("explain", "x") == 2
    assert "cannot explain" in capsys.readouterr().err
