"""The index against its plain twin and the full pass: the same hosts, the same bits, whatever happened before."""

from __future__ import annotations

import random
from array import array

import pytest

from nova_fast._ext.fleet import HostClass, HostTable
from nova_fast._ext.rows import NEVER, NO_LIMIT, ExtraTerm, HostRow, Multipliers, RequestClass, Taken
from tests.lengths import repeats

from .fleet_oracle import OracleClass
from .fleet_world import MULTIPLIERS, PLAIN, UP, World, with_bits

SIZES = (1, 2, 5, 30, 60, 64, 65, 130, 300)  # a block has 64 rows, a page of the table 1,024
QUESTIONS = repeats(2_500, 110_000)
QUESTIONS_ON_LARGE_FLEETS = repeats(2_000, 60_000)
QUESTIONS_OF_THE_PASS = 100_000


def check(world: World, asked: HostClass, twin: OracleClass) -> int | None:
    """Ask both for the best few, by the index and by a full pass; returns the winner."""
    wanted = world.rng.choice([1, 1, 1, 2, 3, 10, 40])
    ranking = world.twin.rank(twin)
    expected = with_bits(ranking)
    assert with_bits(asked.best(wanted)) == expected[:wanted]
    assert with_bits(asked.scan(wanted)) == expected[:wanted]
    assert asked.count() == len(expected)
    if expected:
        nth = world.rng.randrange(len(expected))
        assert asked.nth(nth) == sorted(row for row, _ in expected)[nth]
    return ranking[0][0] if ranking else None


def check_masks(world: World, asked: HostClass, twin: OracleClass, winner: int | None) -> None:
    """The same with rows hidden, with few rows, and with further terms."""
    rng, rows = world.rng, list(world.twin.hosts)
    some = rng.sample(rows, min(len(rows), rng.choice([1, 3, 10])))
    if winner is not None and winner not in some:
        some.append(winner)
    extra = [random_term(rng, world) for _ in range(rng.choice([0, 0, 1, 2]))]
    wanted = rng.choice([1, 3, 70])
    expected = with_bits(world.twin.rank(twin, None, some, extra))
    assert with_bits(asked.masked(without=some, extra=extra, wanted=wanted)) == expected[:wanted]
    expected = with_bits(world.twin.rank(twin, some, some[:1], extra))
    assert with_bits(asked.masked(only=some, without=some[:1], extra=extra, wanted=wanted)) == expected[:wanted]
    ranking = world.twin.rank(twin, None, (), extra)
    found, equals = asked.ties(extra=extra, wanted=wanted)
    assert with_bits(found) == with_bits(ranking)[:wanted]
    assert equals.some(10**6) == [row for row, score in ranking if score == ranking[0][1]]


def random_term(rng: random.Random, world: World) -> ExtraTerm:
    multipliers = rng.choice([1.0, -0.7, [rng.choice([0.3, -1.0]) for _ in range(world.table.profiles)]])
    if rng.random() < 0.5:
        rows = rng.sample(list(world.twin.hosts), min(3, len(world.twin.hosts)))
        return ExtraTerm(rng.choice([5, 6, 8]), {row: rng.choice([1.0, 2.5, -1.0]) for row in rows}, multipliers)
    values = [rng.choice([0.0, 0.1, -3.0]) for _ in range(world.table.rows)]
    return ExtraTerm(rng.choice([0, 5, 8]), values if rng.random() < 0.5 else array("d", values), multipliers)


@pytest.mark.torture
def test_the_index_gives_the_hosts_and_the_bits_of_a_plain_pass_through_every_kind_of_change() -> None:
    rng = random.Random(20261126)
    questions = found = 0
    while questions < QUESTIONS:
        world = World(rng, rng.choice(SIZES))
        for _ in range(rng.choice([1, 2, 4])):
            world.define()
        for _ in range(60):
            # Now and then more changes than a class reads one by one, and a table that outgrows its memory.
            for _ in range(rng.choice([0, 1, 2, 2, 3, 30, 150])):
                world.change()
            if rng.random() < 0.2:
                world.table.tend(rng.choice([1, 5]), rng.choice([1, 20, 1000]), rng.choice([0, 1, 3, 1000]))
            for asked, twin in rng.sample(world.classes, rng.randint(1, len(world.classes))):
                world.judge(asked, twin)
                winner = check(world, asked, twin)
                questions += 1
                found += winner is not None
                if winner is not None and rng.random() < 0.7:
                    request = twin.request
                    world.take(winner, Taken(request.ram, request.vcpus, request.disk, 1, 1))
                if rng.random() < 0.1 and world.twin.hosts:
                    check_masks(world, asked, twin, winner)
    assert found > questions // 4


@pytest.mark.slow
def test_a_hundred_thousand_questions_are_answered_as_by_a_full_pass() -> None:
    """Winner and bits, always so many: the pass costs microseconds. It is held to the plain twin above."""
    rng = random.Random(20261127)
    questions = found = 0
    while questions < QUESTIONS_OF_THE_PASS:
        world = World(rng, rng.choice((*SIZES, 1_100, 2_500)))
        for _ in range(rng.choice([1, 2, 4])):
            world.define()
        for _ in range(1_000):
            for _ in range(rng.choice([0, 1, 2, 3, 4])):
                world.change()
            asked, twin = rng.choice(world.classes)
            world.judge(asked, twin)
            wanted = rng.choice([1, 1, 1, 2, 10])
            ranking = asked.best(wanted)
            assert with_bits(ranking) == with_bits(asked.scan(wanted))
            questions += 1
            found += bool(ranking)
            if ranking and rng.random() < 0.7:
                request = twin.request
                world.take(ranking[0][0], Taken(request.ram, request.vcpus, request.disk, 1, 1))
    assert found > questions // 4


MODELS = ((32, 131072, 1200), (64, 262144, 2000), (96, 524288, 3200), (128, 786432, 4000), (256, 1572864, 8000))


def large_row(rng: random.Random, kind: str) -> HostRow:
    vcpus, ram, disk = MODELS[2] if kind == "alike" else rng.choice(MODELS)
    full = 0.0 if kind in ("alike", "idle") else rng.random()
    used, servers = int(vcpus * 4 * full), int(vcpus * full)
    ram_left, disk_left = ram - int(ram * full), disk - int(disk * full)
    ratio = rng.choice((1.1, 4.0)) if kind == "odd" else 4.0
    failed = int(rng.random() < 0.01) if kind == "odd" else 0
    io_ops = int(rng.random() < 0.05) if kind != "alike" else 0
    return HostRow(
        ram_left, vcpus * 4 - used, disk_left, ram_left, vcpus * ratio, disk_left, io_ops, servers, used, failed, 100,
        rng.randrange(4), UP,
    )  # fmt: skip


@pytest.mark.torture
@pytest.mark.parametrize(("kind", "hosts"), [("full", 9_000), ("odd", 20_000), ("idle", 9_000), ("alike", 20_000)])
def test_on_thousands_of_hosts_the_index_and_the_full_pass_agree(kind: str, hosts: int) -> None:
    """Large enough for groups of blocks; the full pass is held to the plain twin above."""
    rng = random.Random(kind)
    table = HostTable()
    for _ in range(hosts):
        table.put(table.add(), large_row(rng, kind))
    classes = []
    for number in range(6):
        request = RequestClass(
            number, 2048 << number % 3, 1 << number % 3, 20, MULTIPLIERS[number % 3 if number > 2 else 0]
        )
        asked = table.define(request)
        asked.extend([NO_LIMIT, NO_LIMIT, NO_LIMIT, NEVER if number % 2 else 4], [NO_LIMIT] * 4)
        classes.append((asked, Taken(request.ram, request.vcpus, request.disk, 1, 1)))
    living: list[tuple[int, Taken]] = []
    for _ in range(QUESTIONS_ON_LARGE_FLEETS // 4):
        asked, taken = rng.choice(classes)
        wanted = rng.choice([1, 1, 1, 3, 10])
        ranking = asked.best(wanted)
        assert with_bits(ranking) == with_bits(asked.scan(wanted))
        table.change(ranking[0][0], *taken)
        living.append((ranking[0][0], taken))
        if rng.random() < 0.5:
            row, given = living.pop(rng.randrange(len(living)))
            table.change(row, *[-amount for amount in given])
        if rng.random() < 0.1:
            row = rng.randrange(hosts)
            table.put(row, large_row(rng, kind))
            living = [(other, given) for other, given in living if other != row]


def one_class(table: HostTable, multipliers: tuple[float, ...] = MULTIPLIERS[3], **wants: int) -> HostClass:
    request = RequestClass("one", wants.get("ram", 1), wants.get("vcpus", 1), 0, multipliers)  # type: ignore[arg-type]
    asked = table.define(request)
    while asked.evaluated < table.profiles:
        asked.extend([NO_LIMIT], [NO_LIMIT])
    return asked


def test_equal_servers_go_where_one_after_the_other_would_go() -> None:
    rng = random.Random(4)
    for size in (3, 70, 1500):
        world = World(rng, size)
        world.define()
        asked, twin = world.classes[0]
        world.judge(asked, twin)
        taken = Taken(max(1, twin.request.ram), 1, 0, 1, 1)
        placed = asked.place(25, taken)
        for row, score in placed:
            expected = world.twin.rank(twin)[:1]
            assert with_bits(expected) == with_bits([(row, score)])
            world.twin.change(row, taken)
        assert len(placed) == 25 or not world.twin.rank(twin)
        assert with_bits(asked.best(3)) == with_bits(world.twin.rank(twin)[:3])


def test_a_fleet_of_equals_fills_from_the_first_row_and_is_equal_again_afterwards() -> None:
    table = HostTable()
    for _ in range(5000):
        table.put(table.add(), PLAIN)
    asked = one_class(table)
    assert [row for row, _ in asked.place(5000, Taken(10, 1, 1, 0, 1))] == list(range(5000))
    assert asked.best(1) == asked.scan(1) == [(0, 3.0)]
    assert [row for row, _ in asked.place(5001, Taken(10, 1, 1, 0, 1))] == [*range(5000), 0]


def test_the_only_host_with_the_largest_value_may_vanish() -> None:
    table = HostTable()
    for number in range(300):
        table.put(table.add(), PLAIN._replace(ram_weight=number, disk_weight=300 - number))
    asked = one_class(table, (5.0, 1.0, 0.5, -1.0, 1.0, -1.0, 1.0, 0.0))
    for row in range(299, 200, -1):
        assert asked.best(1) == asked.scan(1)
        assert asked.best(1)[0][0] == row
        table.remove(row)
    table.put(table.add(), PLAIN._replace(ram_weight=10**6))
    assert asked.best(1) == asked.scan(1)


def test_one_candidate_is_not_weighed_and_two_are() -> None:
    table = HostTable()
    rows = [table.add() for _ in range(2)]
    table.put(rows[0], PLAIN)
    asked = one_class(table)
    assert asked.best(2) == asked.scan(2) == [(rows[0], 0.0)]
    table.put(rows[1], PLAIN)
    assert asked.best(2) == asked.scan(2) == [(rows[0], 3.0), (rows[1], 3.0)]
    assert asked.masked(without=[rows[0]]) == asked.masked(only=[rows[1]]) == [(rows[1], 0.0)]


def test_multipliers_that_differ_by_profile_are_exact() -> None:
    rng = random.Random(5)
    world = World(rng, 200)
    world.define()
    asked, twin = world.classes[0]
    world.judge(asked, twin)
    asked.best(1)
    world.profiles = max(world.table.profiles, asked.evaluated) + 1
    asked.extend([NO_LIMIT], [NO_LIMIT], [MULTIPLIERS[2]])
    twin.io_limits.append(NO_LIMIT)
    twin.server_limits.append(NO_LIMIT)
    twin.multipliers.append(MULTIPLIERS[2])
    for _ in range(100):
        world.change()
        world.profiles = min(world.profiles, asked.evaluated)
        winner = check(world, asked, twin)
        check_masks(world, asked, twin, winner)
    for row, score in asked.place(20, Taken(0, 1, 0, 1, 1)):
        assert with_bits([(row, score)]) == with_bits(world.twin.rank(twin)[:1])
        world.twin.change(row, Taken(0, 1, 0, 1, 1))


@pytest.mark.parametrize(
    "multipliers",
    [MULTIPLIERS[0], (1.0, 1.0, 1.0, -1.0, 0.0, 0.0, 0.0, -0.5), (0.0, 0.0, 0.0, 0.0, 2.0, -1.0, 0.0, 0.0)],
)
def test_what_is_the_same_of_all_hosts_may_begin_to_differ_and_cease_again(multipliers: Multipliers) -> None:
    """Failed builds, devices, versions: a class leaves out what says nothing, and must notice when it does."""
    rng = random.Random(repr(multipliers))
    for hosts in (1, 2, 100, 5_000):
        table = HostTable(spread_rows=64)
        for profile in range(4):
            table.set_version(profile, 8_002_000)
        for _ in range(hosts):
            table.put(table.add(), large_row(rng, "full"))
        classes = []
        for number in range(3):
            asked = table.define(RequestClass(number, 2048 << number, 1, 20, multipliers))
            asked.extend([NO_LIMIT, NO_LIMIT, 4, NEVER if number else 4], [NO_LIMIT] * 4)
            classes.append(asked)
        odd: list[tuple[int, HostRow]] = []
        for step in range(400):
            row = rng.randrange(hosts)
            if odd and rng.random() < 0.4:
                table.put(*odd.pop())
                if not odd:
                    table.set_version(0, 8_002_000)
            elif step % 40 < 8 and not any(row == other for other, _ in odd):
                before = HostRow(*table.get(row))
                odd.append((row, before))
                changes = rng.choice(({"failed_builds": 1}, {"pci_weight": 0}, {"failed_builds": 2, "pci_weight": 7}))
                table.put(row, before._replace(**changes))
                if rng.random() < 0.3:
                    table.set_version(0, 9_000_000)
            elif not any(row == other for other, _ in odd):
                table.change(row, rng.choice((-512, 512)), 0, 0, 0, 0)
            asked = rng.choice(classes)
            if rng.random() < 0.2:
                table.tend(3, rng.choice([1, 1000]), rng.choice([0, 2, 1000]))
            assert with_bits(asked.best(3)) == with_bits(asked.scan(3))
            if rng.random() < 0.1:
                for passing, ranking in asked.place_among(2, Taken(512, 1, 1, 0, 1), 2):
                    assert ranking and passing > 0
                assert with_bits(asked.best(3)) == with_bits(asked.scan(3))
                odd.clear()


def test_an_idle_moment_goes_to_the_class_that_is_furthest_behind() -> None:
    table = HostTable()
    for number in range(500):
        table.put(table.add(), PLAIN._replace(ram_weight=number))
    classes = [one_class(table), table.define(RequestClass("two", 1, 1, 0, MULTIPLIERS[0]))]
    classes[1].extend([NO_LIMIT], [NO_LIMIT])
    assert table.tend() == 0, "a class without an index is left alone"
    for asked in classes:
        asked.best(1)
    assert table.tend(5) == 0
    table.change(3, 1, 1, 1)
    classes[0].best(1)
    table.change(4, 1, 1, 1)
    assert table.tend() == 1
    assert classes[1].statistics["touches"] == 2
    assert table.tend(5) == 1
    for row in range(40):
        table.change(row, 1, 1, 1)
    before = [asked.statistics["touches"] for asked in classes]
    assert table.tend(1, changes=15) == 1
    assert sum(asked.statistics["touches"] for asked in classes) == sum(before) + 15, "no more than it may in one call"
    assert [asked.best(3) for asked in classes] == [asked.scan(3) for asked in classes]


def test_in_a_large_table_a_question_of_one_class_lets_others_hear_a_part() -> None:
    table = HostTable(spread_rows=100)
    for number in range(500):
        table.put(table.add(), PLAIN._replace(ram_weight=number))
    classes = [table.define(RequestClass(number, 1, 1, 0, MULTIPLIERS[0])) for number in range(3)]
    for asked in classes:
        asked.extend([NO_LIMIT], [NO_LIMIT])
        asked.best(1)
    for row in range(100):
        table.change(row, 1, 1, 1)
    for _ in range(8):
        classes[0].best(1)
    assert [asked.statistics["touches"] for asked in classes[1:]] == [100, 100]
    assert [asked.statistics["builds"] for asked in classes] == [1, 1, 1]
    assert [asked.best(3) for asked in classes] == [asked.scan(3) for asked in classes]


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e-42, 1e-30, 1e-7, 1.0, 1e9, 1e29, 1e31, 1e300])
@pytest.mark.parametrize("base", [0.0, 1.0, 8_002_000.0, -1e18])
def test_a_pass_over_all_hosts_leaves_nobody_out_whatever_a_further_term_says(scale: float, base: float) -> None:
    """It passes over blocks by an estimate in single precision; a pass over named rows has none."""
    rng = random.Random(f"{scale} {base}")
    table = HostTable()
    for _ in range(3_000):
        table.put(table.add(), large_row(rng, "full"))
    asked = table.define(RequestClass("one", 1024, 1, 10, MULTIPLIERS[0]))
    asked.extend([NO_LIMIT] * 4, [NO_LIMIT] * 4)
    rows = list(range(3_000))
    for multiplier in (1.0, -1.0, 1e-40, 1e40, 3e99):
        near = rng.random() < 0.5
        dense = [base + scale * (1.0 + rng.random() * 1e-9 if near else rng.random() - 0.5) for _ in rows]
        few = {row: base + scale * rng.random() for row in rng.sample(rows, 30)}
        # Hosts that do not pass may say what they like.
        for row, _ in asked.masked(only=rng.sample(rows, 5), wanted=5):
            table.put(row, large_row(rng, "full")._replace(flags=0))
            dense[row] = 1.7e308
        for values in (dense, array("d", dense), few, dict(enumerate(dense)), few):
            extra = [ExtraTerm(rng.choice([0, 5, 8]), values, multiplier)]
            wanted = rng.choice([1, 3])
            expected = with_bits(asked.masked(only=rows, extra=extra, wanted=wanted))
            assert with_bits(asked.masked(extra=extra, wanted=wanted)) == expected
            ranking, equals = asked.ties(extra=extra)
            best = asked.masked(only=rows, extra=extra, wanted=3_000)
            assert equals.some(3_000) == sorted(row for row, score in best if score == ranking[0][1])
