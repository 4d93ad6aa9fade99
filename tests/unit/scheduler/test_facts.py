"""Facts of hosts, made from the records."""

from __future__ import annotations

import json

import msgspec

from nova_fast.model.aggregates import Aggregate
from nova_fast.scheduler.facts import UNLIMITED, facts_of, hint
from tests.unit.scheduler.fleet import ask, make_host


def aggregate(number: int, **metadata: str) -> Aggregate:
    return Aggregate(id=f"a-{number}", number=number, name=f"n-{number}", created_at_us=0, metadata=metadata)


def test_hosts_that_no_filter_can_tell_apart_have_the_same_facts() -> None:
    aggregates = [aggregate(1, a="1", b="2"), aggregate(2, c="3"), aggregate(3)]
    one = facts_of(make_host("one", ram_mib=8192), aggregates)
    two = facts_of(make_host("two", ram_mib=8191, vcpus=5), [aggregates[1], aggregates[0], aggregate(4, a="1", b="2")])
    assert one == two and hash(one) == hash(two)
    assert one != facts_of(make_host("one"), aggregates[:1])
    assert one != facts_of(make_host("one", traits=("CUSTOM_A",)), aggregates)
    assert one != facts_of(make_host("one"), aggregates, {"one"})


def test_an_aggregate_gives_the_zone_a_host_without_one_has_its_own() -> None:
    assert facts_of(make_host("a", zone="own"), [aggregate(1, ssd="1")]).zone == "own"
    assert facts_of(make_host("a", zone="own"), [aggregate(1, availability_zone="z")]).zone == "z"


def test_metadata_with_commas_is_a_list() -> None:
    facts = facts_of(make_host("a"), [aggregate(1, ssd="true, false", x="1"), aggregate(2, ssd="no")])
    assert facts.values("ssd") == {"true, false", "no"}
    assert facts.metadata() == {"ssd": {"true", "false", "no"}, "x": {"1"}}


def test_a_host_that_says_nothing_of_what_it_supports_supports_its_own_kind() -> None:
    host = make_host("a", architecture="aarch64")
    assert facts_of(host, []).supported_instances == (("aarch64", "qemu", "hvm"),)
    told = msgspec.structs.replace(host.resources, supported_instances=(("x86_64", "kvm", "hvm"),))
    assert facts_of(msgspec.structs.replace(host, resources=told), []).supported_instances == (
        ("x86_64", "kvm", "hvm"),
    )


def test_the_processor_has_the_shape_of_novas() -> None:
    host = make_host("a")
    cpu_info = {
        "arch": "x86_64",
        "model": "m",
        "cores": "4",
        "threads": "2",
        "features": "a,b",
        "maxphysaddr_bits": "46",
    }
    resources = msgspec.structs.replace(host.resources, cpu_info=cpu_info)
    facts = facts_of(msgspec.structs.replace(host, resources=resources), [])
    assert json.loads(facts.cpu_info) == {
        "arch": "x86_64",
        "model": "m",
        "topology": {"cores": 4, "threads": 2},
        "features": ["a", "b"],
        "maxphysaddr": {"bits": 46},
    }


def test_only_a_ratio_above_one_makes_the_machine_a_limit_of_its_own() -> None:
    usual = facts_of(make_host("a", vcpus=4, ram_mib=100, disk_gib=10), [])
    assert (usual.vcpus_max, usual.ram_mib_max, usual.disk_gib_max) == (UNLIMITED,) * 3
    ratios = {"cpu_ratio": 4.0, "ram_ratio": 1.5, "disk_ratio": 2.0}
    more = facts_of(make_host("a", vcpus=4, ram_mib=100, disk_gib=10, **ratios), [])
    assert (more.vcpus_max, more.ram_mib_max, more.disk_gib_max) == (4, 100, 10)


def test_a_hint_that_is_a_list_of_one_is_that_one() -> None:
    request = ask("s", hints={"one": ["a"], "two": ["a", "b"], "text": "a"})
    assert [hint(request, name) for name in ("one", "two", "text", "none")] == ["a", ["a", "b"], "a", None]
