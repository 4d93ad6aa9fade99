"""What a run says: lines, promises, the file of a release, plots, and what others' tools say."""

from __future__ import annotations

import http.client
import importlib
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest

from bench import closed_loop, history, results, wrk
from bench.__main__ import LARGE, NAMES, QUICK_NAMES
from bench.journeys import request_bytes
from bench.machine import ROOT, cpu_s, pss_mib, sync_ms, this_machine
from bench.peers import FALCON, FALCON_ON_UVICORN, PROTOCOL, running
from bench.plot import Panel, write_panels
from bench.results import MEASURES, report
from bench.targets import TARGETS, promised, unmeasured


@pytest.fixture(autouse=True)
def _own_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MEASURES", [])
    for module in ("bench.targets", "bench.history"):
        monkeypatch.setattr(importlib.import_module(module), "MEASURES", results.MEASURES)


def test_a_measure_is_one_line_with_its_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert report("a", 1234.5, "1/s", 1000)
    assert not report("b", 0.75, "ms", 0.7, less_is_better=True)
    assert report("c", 0.00123, "s", None)
    assert capsys.readouterr().out.splitlines() == [
        "RESULT name=a value=1234 unit=1/s target=>=1000 ok=yes",
        "RESULT name=b value=0.75 unit=ms target=<=0.7 ok=no",
        "RESULT name=c value=0.00123 unit=s target=none ok=yes",
    ]


def test_a_promise_is_judged_by_its_own_target_and_leaves_the_list_of_what_has_no_figure() -> None:
    assert "hub_rpc_tcp_curve" in unmeasured()
    assert not promised("hub_rpc_tcp_curve", 19_999)
    assert promised("idle_pss", 200)
    assert "hub_rpc_tcp_curve" not in unmeasured()
    assert len(unmeasured()) == len(TARGETS) - 2


def test_every_promise_is_measured_by_some_benchmark() -> None:
    """By its name in the source: a promise that nobody reports would never be missed."""
    source = "".join(path.read_text() for path in (ROOT / "bench").glob("*.py") if path.name != "targets.py")
    lost = [name for name in TARGETS if f'"{name}"' not in source]
    assert lost == []


def test_every_benchmark_exists() -> None:
    for name in (*NAMES, LARGE):
        assert (ROOT / "bench" / f"bench_{name}.py").exists(), name
    assert set(QUICK_NAMES) <= set(NAMES)


def test_a_release_is_written_down_and_a_second_run_adds_to_it(tmp_path: Path) -> None:
    machine = this_machine()
    promised("boots_to_active_100_computes", 1600)
    promised("idle_pss", 150)
    path = history.record("1.0", machine, tmp_path, tmp_path / "plot.svg")
    results.MEASURES.clear()
    promised("boots_to_active_100_computes", 1700)
    promised("list_page_p99_1m_to_1k", 1.5)
    assert history.record("1.0", machine, tmp_path, tmp_path / "plot.svg") == path
    found = msgspec.json.decode(path.read_bytes(), type=history.Release)
    assert len(found.runs) == 2
    assert {measure.name: measure.value for measure in found.measures} == {
        "boots_to_active_100_computes": 1700,
        "idle_pss": 150,
        "list_page_p99_1m_to_1k": 1.5,
    }
    drawn = (tmp_path / "plot.svg").read_text()
    assert "1,700/s" in drawn
    assert "SDK" not in drawn  # what was not measured is not drawn
    assert MEASURES is not results.MEASURES  # nothing of this test is left behind


def test_plots_are_valid_and_longer_bars_are_larger_values(tmp_path: Path) -> None:
    path = tmp_path / "plot.svg"
    limit = ("promised", 0.6)
    write_panels(path, [Panel("a", "hosts", [("x", [(1, 0.002), (10, 0.02), (10_000, 0.5)])], limit)])
    root = ET.fromstring(path.read_text())
    [line] = [element for element in root.iter() if element.tag.endswith("polyline")]
    heights = [float(point.split(",")[1]) for point in line.attrib["points"].split()]
    assert heights == sorted(heights, reverse=True)  # up is more
    assert "promised" in path.read_text()


def test_what_wrk_says_is_understood() -> None:
    said = """Running 2s test @ http://127.0.0.1:1/
  Latency Distribution
     50%  812.00us
     75%    1.02ms
     90%    1.70ms
     99%    1.20s
  12345 requests in 2.00s, 9.00MB read
Requests/sec:   6172.25
"""
    assert wrk.understand(said) == (6172.25, 0.812, 1200.0)
    with pytest.raises(AssertionError):
        wrk.understand(said + "  Non-2xx or 3xx responses: 3\n")


def test_a_process_says_what_it_costs() -> None:
    import os

    before, spent = cpu_s(os.getpid()), 0
    while cpu_s(os.getpid()) - before < 0.05:
        spent += 1
    assert spent > 100
    assert 5 < pss_mib(os.getpid()) < 5000


def test_a_sync_takes_time(tmp_path: Path) -> None:
    assert all(0 < one < 5000 for one in sync_ms(tmp_path, 3))


def test_the_document_names_every_target_of_make() -> None:
    document = (ROOT / "docs" / "benchmarks.md").read_text()
    targets = re.findall(
        r"\bbench[a-z-]*\b", " ".join(re.findall(r"^(bench[^:]*):", (ROOT / "Makefile").read_text(), re.M))
    )
    assert len(targets) > 10
    assert [name for name in targets if f"make {name}" not in document] == []


@pytest.mark.parametrize("peer", [FALCON, FALCON_ON_UVICORN, PROTOCOL])
def test_peers_send_the_json_they_were_given(peer: tuple[str, ...]) -> None:
    """Whoever sent less, or an error, would look fast."""
    body = b'{"server":{"id":"a","name":"b"}}'
    with running(peer, body) as server:
        found = closed_loop.run(server.port, 2, 1.0, [request_bytes("GET", "/v2.1/servers/a", {"X-Auth-Token": "t"})])
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", "/v2.1/servers/a")
        assert json.loads(connection.getresponse().read()) == json.loads(body)
        connection.close()
    assert found.errors == 0
    assert found.count > 10


def test_a_closed_load_that_is_to_be_sent_once_is_sent_once() -> None:
    with running(PROTOCOL, b"{}") as server:
        requests = [request_bytes("GET", f"/v2.1/servers/{number}", {}) for number in range(7)]
        assert closed_loop.run(server.port, 3, 10, requests, once=True).count == 7
