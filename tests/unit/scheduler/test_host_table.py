"""The compiled host table against its twin: the same winner, the same bits of the score, the same counts."""

from __future__ import annotations

import random
import struct
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_fast._ext import ANY, HostQuery, HostRow
from nova_fast._ext.host_table import HOST_ENABLED, HOST_EXCLUDED, HOST_UP, HostTable

from .oracle import OracleHost, OracleRequest, filter_hosts, least_used, weigh

FLEETS = 2500
BLOCK = 1024
# Whole numbers hide a fused multiply-add, and so do sizes far apart: most of these are neither.
MULTIPLIERS = [(1.0, 1.0, 1.0, -1.0), (0.3, 0.7, 1 / 3, -1.9), (-1.1, 0.1, 0.0, 3.3), (1e6, -0.3, 0.7, 1 / 3)]


def bits(score: float) -> bytes:
    return struct.pack("<d", score)


def with_bits(ranking: list[tuple[int, float]]) -> list[tuple[int, bytes]]:
    return [(row, bits(score)) for row, score in ranking]


def put(table: HostTable, host: OracleHost) -> None:
    flags = (HOST_UP if host.up else 0) | (HOST_ENABLED if host.enabled else 0)
    table.put(
        host.row,
        HostRow(
            ram_mib=host.ram_mib,
            vcpus=host.vcpus,
            disk_gib=host.disk_gib,
            io_ops=host.io_ops,
            servers=0,
            vcpus_used=host.vcpus_used,
            zone=host.zone,
            architecture=host.architecture,
            flags=flags,
        ),
    )
    table.exclude([host.row], host.excluded)


def random_host(rng: random.Random, row: int, scale: int) -> OracleHost:
    return OracleHost(
        row=row,
        ram_mib=rng.randint(-scale, 40 * scale),
        vcpus=rng.randint(-2, 4 * scale),
        disk_gib=rng.randint(-1, 10 * scale),
        io_ops=rng.randrange(1 + scale),
        vcpus_used=rng.randrange(4),
        zone=rng.randrange(3),
        architecture=int(rng.random() < 0.2),
        up=rng.random() < 0.95,
        enabled=rng.random() < 0.95,
        excluded=rng.random() < 0.05,
    )


def random_fleet(rng: random.Random) -> tuple[HostTable, list[OracleHost]]:
    """A fleet with holes where hosts were removed; small scales make ties, homogeneous ones make nothing but ties."""
    table = HostTable()
    # Mostly few hosts; now and then the edge of a block and more than one block.
    size = rng.choice([1, 2, 3, 5, 20, 60]) if rng.random() < 0.98 else rng.choice([1023, 1024, 1025, 2100])
    scale = rng.choice([1, 2, 10, 1000, 40_000_000])
    pattern = random_host(rng, 0, scale) if rng.random() < 0.2 else None
    hosts = []
    for _ in range(size):
        host = random_host(rng, table.add(), scale)
        if pattern is not None:
            host.ram_mib, host.vcpus, host.disk_gib = pattern.ram_mib, pattern.vcpus, pattern.disk_gib
        put(table, host)
        hosts.append(host)
    for host in rng.sample(hosts, size // 8):
        table.remove(host.row)
        hosts.remove(host)
    return table, hosts


def random_request(rng: random.Random, hosts: list[OracleHost]) -> OracleRequest:
    model = rng.choice(hosts)
    return OracleRequest(
        ram_mib=rng.choice([0, 1, max(0, model.ram_mib), rng.randrange(1 + max(0, model.ram_mib))]),
        vcpus=rng.choice([0, 1, max(0, model.vcpus)]),
        disk_gib=rng.choice([0, 1, max(0, model.disk_gib)]),
        zone=rng.choice([ANY, ANY, model.zone, 7]),
        architecture=rng.choice([ANY, model.architecture]),
        host=model.row if rng.random() < 0.1 else ANY,
    )


def query(request: OracleRequest) -> HostQuery:
    return HostQuery(request.ram_mib, request.vcpus, request.disk_gib, request.zone, request.architecture, request.host)


def check_against_oracle(table: HostTable, hosts: list[OracleHost], request: OracleRequest, wanted: int) -> int:
    passing, counts = filter_hosts(hosts, request)
    asked = query(request)
    assert table.explain(asked) == tuple(counts)
    assert table.feasible(asked) == len(passing)
    assert [table.nth(n) for n in range(len(passing))] == sorted(host.row for host in passing)
    multipliers = MULTIPLIERS[(request.ram_mib + len(passing)) % len(MULTIPLIERS)]
    table.set_multipliers(*multipliers)
    expected = with_bits(weigh(passing, multipliers))
    assert with_bits(table.best(asked, wanted)) == expected[:wanted]
    ranking, ties = table.best_and_ties(asked, wanted)
    equals = sorted(row for row, score in expected if score == expected[0][1])
    assert with_bits(ranking) == expected[:wanted]
    assert [table.nth(n) for n in range(ties)] == equals
    assert with_bits(table.least_used(asked, wanted)) == with_bits(least_used(passing))[:wanted]
    return len(passing)


def test_the_winner_its_score_bits_and_the_counts_are_the_oracles_on_thousands_of_fleets() -> None:
    rng = random.Random(20261123)
    found = refused = 0
    for _ in range(FLEETS):
        table, hosts = random_fleet(rng)
        if not hosts:
            continue
        assert len(table) == len(hosts)
        if check_against_oracle(table, hosts, random_request(rng, hosts), rng.choice([1, 1, 3, 16, 17, 5000])):
            found += 1
        else:
            refused += 1
    assert found > FLEETS // 4
    assert refused > FLEETS // 20


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.builds(
            OracleHost,
            row=st.just(0),
            ram_mib=st.integers(-(2**31), 2**31 - 1),
            vcpus=st.integers(-3, 2**31 - 1),
            disk_gib=st.integers(-3, 2**31 - 1),
            io_ops=st.integers(0, 2**31 - 1),
            vcpus_used=st.integers(0, 2**31 - 1),
            zone=st.integers(0, 2),
            architecture=st.integers(0, 1),
            up=st.booleans(),
            enabled=st.just(True),
            excluded=st.booleans(),
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(0, 2**31 - 1),
    st.integers(0, 4),
    st.integers(-1, 2),
)
def test_the_oracle_holds_at_the_edges_of_32_bits(hosts: list[OracleHost], ram_mib: int, vcpus: int, zone: int) -> None:
    table = HostTable()
    for host in hosts:
        host.row = table.add()
        put(table, host)
    check_against_oracle(table, hosts, OracleRequest(ram_mib=ram_mib, vcpus=vcpus, disk_gib=0, zone=zone), 3)


def test_an_empty_table_answers_nothing() -> None:
    table = HostTable()
    asked = HostQuery(1, 1, 1)
    assert len(table) == 0
    assert table.best(asked, 1) == []
    assert table.best_and_ties(asked, 1) == ([], 0)
    assert table.least_used(asked, 1) == []
    assert table.feasible(asked) == 0
    assert set(table.explain(asked)) == {0}
    with pytest.raises(IndexError):
        table.nth(0)


def test_a_host_that_was_only_added_cannot_be_chosen() -> None:
    table = HostTable()
    table.add()
    assert table.feasible(HostQuery(0, 0, 0)) == 0


def test_a_freed_row_is_used_again_and_growth_keeps_every_row() -> None:
    table = HostTable()
    rows = [table.add() for _ in range(3 * BLOCK + 1)]
    assert rows == list(range(3 * BLOCK + 1))
    for row in rows:
        table.put(row, HostRow(row, 1, 1, 0, 0, 0, 0, 0, HOST_UP | HOST_ENABLED))
    assert [table.get(row)[0] for row in rows] == rows
    table.remove(7)
    with pytest.raises(IndexError):
        table.get(7)
    assert table.feasible(HostQuery(0, 0, 0)) == len(rows) - 1 == len(table)
    assert table.add() == 7


def test_a_removed_hosts_exclusion_does_not_stay_with_its_row() -> None:
    table = HostTable()
    row = table.add()
    table.exclude([row], True)
    table.remove(row)
    assert table.add() == row
    table.put(row, HostRow(1, 1, 1, 0, 0, 0, 0, 0, HOST_UP | HOST_ENABLED))
    assert table.feasible(HostQuery(1, 1, 1)) == 1


def test_what_if_questions_look_past_flags() -> None:
    table = HostTable()
    for flags in (0, HOST_UP, HOST_ENABLED, HOST_UP | HOST_ENABLED):
        row = table.add()
        table.put(row, HostRow(1, 1, 1, 0, 0, 0, 0, 0, flags))
    asked = HostQuery(1, 1, 1)
    assert table.feasible(asked) == 1
    assert table.feasible(asked._replace(ignored_flags=HOST_UP | HOST_ENABLED)) == 4
    table.exclude([3], True)
    assert table.feasible(asked) == 0
    assert table.feasible(asked._replace(ignored_flags=HOST_EXCLUDED)) == 1


def test_wrong_arguments_are_refused() -> None:
    table = HostTable()
    row = table.add()
    good = HostRow(1, 1, 1, 0, 0, 0, 0, 0, 0)
    with pytest.raises(IndexError):
        table.put(row + 1, good)
    with pytest.raises(OverflowError):
        table.put(row, good._replace(ram_mib=2**31))
    with pytest.raises(ValueError, match="negative"):
        table.put(row, good._replace(zone=-1))
    with pytest.raises(ValueError, match="negative"):
        table.best(HostQuery(-1, 0, 0), 1)
    with pytest.raises(ValueError, match="at least one"):
        table.best(HostQuery(1, 0, 0), 0)
    with pytest.raises(IndexError):
        table.best(HostQuery(1, 0, 0, host=5), 1)
    with pytest.raises(ValueError, match="finite"):
        table.set_multipliers(float("nan"), 1, 1, 1)
    with pytest.raises(IndexError):
        table.remove(-1)


def test_a_table_in_use_by_one_thread_refuses_another() -> None:
    """Scans run without the interpreter's lock; a write in their middle must be refused, not mixed in."""
    table = HostTable()
    for _ in range(200_000):
        table.put(table.add(), HostRow(10, 10, 10, 0, 0, 0, 0, 0, HOST_UP | HOST_ENABLED))
    stop = threading.Event()
    refused: list[RuntimeError] = []

    def write() -> None:
        while not stop.is_set():
            try:
                table.put(0, HostRow(10, 10, 10, 0, 0, 0, 0, 0, HOST_UP | HOST_ENABLED))
            except RuntimeError as e:
                refused.append(e)
                return

    writer = threading.Thread(target=write)
    writer.start()
    scans = 0
    while writer.is_alive() and scans < 20_000:
        try:
            table.best(HostQuery(1, 1, 1), 1)
        except RuntimeError as e:
            refused.append(e)
        scans += 1
    stop.set()
    writer.join()
    assert refused
