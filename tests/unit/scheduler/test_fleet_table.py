"""The fleet's table: rows, classes and sieves as Python sees them."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from nova_fast._ext import fleet
from nova_fast._ext.fleet import HOST_ENABLED, HOST_UP, HostClass, HostTable
from nova_fast._ext.rows import NEVER, NO_LIMIT, ExtraTerm, HostRow, RequestClass, Taken

from .fleet_oracle import OracleClass, passes
from .fleet_world import MULTIPLIERS, PLAIN, UP, World

LARGEST, SMALLEST = 2**31 - 1, -(2**31)


def filled(*rows: HostRow) -> HostTable:
    table = HostTable()
    for values in rows:
        table.put(table.add(), values)
    return table


def ask(table: HostTable, key: object = "", ram: int = 1, flags: int = UP) -> HostClass:
    asked = table.define(RequestClass(key, ram, 1, 1, MULTIPLIERS[0], flags))
    while asked.evaluated < table.profiles:
        asked.extend([NO_LIMIT], [NO_LIMIT])
    return asked


def test_a_row_is_what_was_put_and_a_free_row_is_used_again() -> None:
    table = filled(*[PLAIN._replace(servers=number) for number in range(2100)])
    assert [table.get(row)[7] for row in range(2100)] == list(range(2100))
    table.remove(7)
    assert len(table) == 2099
    with pytest.raises(IndexError):
        table.get(7)
    assert table.add() == 7
    assert table.rows == 2100
    assert ask(table).count() == 2099, "a host that was only added cannot be chosen"
    row = HostRow(1, 2, 3, 4, 5.5, 6, 7, 8, 9, 10, 11, 12, HOST_UP)
    table.put(7, row)
    assert HostRow(*table.get(7)) == row


def test_a_claim_moves_every_column_that_follows_from_it() -> None:
    table = filled(PLAIN)
    table.change(0, 100, 2, 5, 1, 1)
    assert HostRow(*table.get(0)) == HostRow(900, 8, 95, 900, 10.0, 95, 1, 1, 2, 0, 100, 0, UP)
    table.change(0, -100, -2, -5, -1, -1)
    assert HostRow(*table.get(0)) == PLAIN


@pytest.mark.parametrize(
    "taken",
    [
        (0, 0, 0, -1, 0),
        (0, 0, 0, 0, -1),
        (0, -1, 0),
        (LARGEST + 1002, 0, 0),
        (-LARGEST, 0, 0),
        (0, LARGEST, 0),
        (2**62, 0, 0),
    ],
)
def test_what_would_leave_the_bounds_of_a_column_changes_nothing(taken: tuple[int, ...]) -> None:
    table = filled(PLAIN)
    asked = ask(table)
    asked.best(1)
    with pytest.raises(OverflowError):
        table.change(0, *taken)
    assert HostRow(*table.get(0)) == PLAIN
    assert asked.count() == 1


def test_the_edges_of_32_bits_are_exact() -> None:
    rng = random.Random(3)
    edges = (SMALLEST, SMALLEST + 1, -1, 0, 1, LARGEST - 1, LARGEST)
    world = World(rng, 0)
    for _ in range(60):
        amounts = [rng.choice(edges) for _ in range(5)]
        counts = [rng.choice((0, 1, LARGEST - 1)) for _ in range(5)]
        total = float(rng.choice(edges))
        values = HostRow(*amounts[:4], total, amounts[4], *counts, rng.randrange(2), UP)
        world.put(world.table.add(), values)
    for number, multipliers in enumerate(MULTIPLIERS):
        request = RequestClass(number, rng.choice((0, LARGEST)), 0, 0, multipliers)
        asked = world.table.define(request)
        world.classes.append((asked, OracleClass(request)))
        world.judge(*world.classes[-1])
        expected = world.twin.rank(world.classes[-1][1])
        assert asked.best(60) == asked.scan(60) == expected


def test_wrong_arguments_are_refused() -> None:
    table = filled(PLAIN)
    for wrong, error in [
        (PLAIN._replace(ram_free=LARGEST + 1), OverflowError),
        (PLAIN._replace(io_ops=-1), ValueError),
        (PLAIN._replace(servers=LARGEST), OverflowError),
        (PLAIN._replace(cpu_total=float("nan")), ValueError),
        (PLAIN._replace(profile=-1), ValueError),
        (PLAIN._replace(profile=1 << 24), ValueError),
    ]:
        with pytest.raises(error):
            table.put(0, wrong)
    with pytest.raises(TypeError):
        table.put(0, list(PLAIN))  # type: ignore[arg-type]
    with pytest.raises(IndexError):
        table.put(1, PLAIN)
    with pytest.raises(IndexError):
        table.remove(-1)
    with pytest.raises(ValueError, match="negative"):
        ask(table, ram=-1)
    with pytest.raises(ValueError, match="finite"):
        table.define(RequestClass("", 1, 1, 1, (float("inf"), *MULTIPLIERS[0][1:])))  # type: ignore[arg-type]
    asked = ask(table)
    with pytest.raises(ValueError, match="at least one"):
        asked.best(0)
    with pytest.raises(IndexError):
        asked.masked(without=[5])
    with pytest.raises(ValueError, match="finite"):
        asked.masked(extra=[ExtraTerm(5, {0: float("nan")}, 1.0)])
    with pytest.raises(ValueError, match="each row"):
        asked.masked(extra=[ExtraTerm(5, [], 1.0)])
    with pytest.raises(ValueError, match="0 to 8"):
        asked.masked(extra=[ExtraTerm(9, {}, 1.0)])
    assert asked.masked(extra=[ExtraTerm(5, {}, 1.0)]) == [(0, 0.0)], "what failed left nothing behind"
    with pytest.raises(IndexError):
        asked.nth(1)


def test_a_profile_without_a_verdict_is_no_question_for_the_kernel() -> None:
    table = filled(PLAIN)
    asked = ask(table)
    table.put(0, PLAIN._replace(profile=3))
    assert table.profiles == 4
    for question in (asked.best, asked.scan, asked.count, asked.sieve, asked.ties, asked.least_used, asked.masked):
        with pytest.raises(RuntimeError, match="verdict"):
            question()
    asked.extend([NO_LIMIT, NEVER, NEVER], [NO_LIMIT] * 3)
    assert asked.best(1) == []
    table.put(0, PLAIN._replace(profile=1))
    assert asked.best(1) == [(0, 0.0)]


def test_limits_of_a_profile_bound_operations_and_servers() -> None:
    table = filled(*[PLAIN._replace(io_ops=n % 4, servers=n // 4, profile=n % 2) for n in range(16)])
    for io_limits, server_limits in [([2, 2], [2, 2]), ([1, 3], [9, 9]), ([NEVER, 3], [2, 1]), ([9, 9], [1, NEVER])]:
        asked = table.define(RequestClass((*io_limits, *server_limits), 1, 1, 1, MULTIPLIERS[0]))
        asked.extend(io_limits, server_limits)
        never = [NEVER in pair for pair in zip(io_limits, server_limits, strict=True)]
        expected = [
            n for n in range(16) if not never[n % 2] and n % 4 < io_limits[n % 2] and n // 4 < server_limits[n % 2]
        ]
        assert asked.sieve().some(99) == expected
        assert [asked.nth(n) for n in range(asked.count())] == expected


def test_equal_classes_are_one_and_the_least_used_give_their_memory_back() -> None:
    table = HostTable(100_000)
    for _ in range(5000):
        table.put(table.add(), PLAIN)
    assert ask(table, "a") is ask(table, "a")
    classes = [ask(table, number) for number in range(10)]
    answers = [asked.best(2) for asked in classes]
    assert 0 < table.index_bytes <= 100_000
    table.change(0, 1, 1, 1)
    assert [asked.best(2) for asked in reversed(classes)] == [asked.scan(2) for asked in reversed(classes)]
    assert answers[0] == [(0, 3.0), (1, 3.0)]
    for number in range(4200):
        table.define(RequestClass(number, 1, 1, 1, MULTIPLIERS[0]))
    assert classes[0].best(2) == classes[0].scan(2), "a class that was forgotten still answers"


def test_the_version_weigher_sees_what_is_said_of_a_profile() -> None:
    table = filled(PLAIN, PLAIN._replace(profile=1), PLAIN)
    asked = ask(table)
    assert asked.best(1) == asked.scan(1) == [(0, 3.0)]
    table.set_version(1, 8000)
    assert asked.best(1) == asked.scan(1) == [(1, 4.0)]
    table.set_version(0, 8000)
    assert asked.best(1) == asked.scan(1) == [(0, 3.0)]


def test_the_least_used_host_is_the_one_with_the_fewest_vcpus_taken() -> None:
    table = filled(*[PLAIN._replace(vcpus_used=used) for used in (3, 1, 2, 1, 0)])
    table.put(4, PLAIN._replace(flags=HOST_ENABLED))
    asked = ask(table)
    assert asked.least_used(wanted=3) == [(1, -1.0), (3, -1.0), (2, -2.0)]
    assert asked.least_used(wanted=100) == [(1, -1.0), (3, -1.0), (2, -2.0), (0, -3.0)]
    assert asked.least_used(without=[1, 3], only=[0, 1, 2]) == [(2, -2.0)]


def test_a_sieve_counts_filter_by_filter() -> None:
    rng = random.Random(9)
    world = World(rng, 1500)
    world.define()
    asked, twin = world.classes[0]
    world.judge(asked, twin)
    hosts = world.twin.hosts
    limits = [rng.choice([NEVER, 2, NO_LIMIT]) for _ in range(world.table.profiles)]
    sieve = world.table.sieve()
    assert sieve.count == len(hosts)
    steps = [
        (lambda: sieve.flags(UP), lambda h: h.flags == UP),
        (lambda: sieve.at_least(fleet.RAM_FREE, 1), lambda h: h.ram_free >= 1),
        (lambda: sieve.below(fleet.IO_OPS, limits), lambda h: h.io_ops < limits[h.profile]),
        (lambda: sieve.profiles([n % 2 == 0 for n in range(len(limits))]), lambda h: h.profile % 2 == 0),
    ]
    left = dict(hosts)
    for narrow, keeps in steps:
        left = {row: host for row, host in left.items() if keeps(host)}
        assert narrow() == sieve.count == len(left)
    assert sieve.some(10**6) == sorted(left)
    assert sieve.count_at_least(fleet.VCPUS_FREE, 1) == sum(host.vcpus_free >= 1 for host in left.values())
    by_profile = Counter(host.profile for host in left.values())
    assert sieve.by_profile() == [by_profile[number] for number in range(world.table.profiles)]
    assert asked.sieve().some(10**6) == [row for row in sorted(hosts) if passes(hosts[row], twin)]


def test_a_sieve_ends_with_the_next_write_or_pass() -> None:
    table = filled(PLAIN, PLAIN)
    asked = ask(table)
    for end in (lambda: table.change(0, 1, 1, 1), asked.scan, table.sieve, lambda: table.put(1, PLAIN)):
        sieve = table.sieve()
        assert sieve.without([1]) == 1
        assert sieve.only([0, 1]) == 1
        assert sieve.nth(0) == 0
        with pytest.raises(IndexError):
            sieve.nth(1)
        end()
        with pytest.raises(RuntimeError, match="gone"):
            _ = sieve.count


def test_room_is_how_many_can_be_placed() -> None:
    rng = random.Random(6)
    for _ in range(20):
        world = World(rng, 40)
        world.scale = 10
        world.define()
        asked, twin = world.classes[0]
        world.judge(asked, twin)
        taken = Taken(max(1, twin.request.ram), max(1, twin.request.vcpus), 1, 0, 1)
        room = asked.room(taken)
        if room < 3000:
            assert len(asked.place(room + 1, taken)) == room
            assert asked.room(taken) == 0


def test_rows_hidden_from_one_question_are_there_for_the_next() -> None:
    table = filled(*[PLAIN._replace(ram_weight=n) for n in range(200)])
    asked, other = ask(table), ask(table, "other")
    assert asked.masked(without=[199, 198])[0][0] == 197
    assert asked.masked(without=[199], extra=[ExtraTerm(5, {3: 9.0}, 5.0)])[0][0] == 3
    with pytest.raises(IndexError):
        asked.masked(without=[199, 500])
    assert asked.best(1) == other.best(1) == asked.scan(1)
    assert asked.best(1)[0][0] == 199


def test_a_class_may_ask_for_hosts_that_are_out_of_service() -> None:
    table = filled(PLAIN._replace(flags=0), PLAIN._replace(flags=HOST_UP), PLAIN)
    assert [ask(table, flags=flags).count() for flags in (UP, HOST_UP, 0)] == [1, 2, 3]
