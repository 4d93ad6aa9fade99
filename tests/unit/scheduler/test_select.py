"""What the scheduler promises to the conductor and to its operator."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from nova_fast.config import SchedulerConfig
from nova_fast.model.errors import BadRequest, InternalError
from nova_fast.model.events import Claimed, HostChanged, HostRemoved, Released, ServerChanged
from nova_fast.model.hosts import Claim, HostUsage
from nova_fast.model.tasks import FilterCount, GroupRule, ReleaseClaims
from nova_fast.scheduler.hosts import COLUMN_MAX
from nova_fast.scheduler.select import Scheduler

from .fleet import SMALL, ask, free, make_host, make_scheduler, place


def test_the_emptiest_host_wins_and_the_next_two_are_the_alternates() -> None:
    scheduler = make_scheduler(*(make_host(f"h{size}", vcpus=size, ram_mib=size * 1024) for size in (2, 8, 4, 1)))
    (placement,) = place(scheduler, ask("s"))
    assert placement.host == "h8"
    assert placement.alternates == ("h4", "h2")
    assert placement.weight == 3.0
    assert placement.filters == ()
    assert placement.hint == ""


def test_one_candidate_is_not_weighed() -> None:
    (placement,) = place(make_scheduler(make_host("only")), ask("s"))
    assert (placement.host, placement.weight, placement.alternates) == ("only", 0.0, ())


def test_equal_hosts_are_taken_in_the_order_of_their_names() -> None:
    scheduler = make_scheduler(make_host("c"), make_host("a"), make_host("b"))
    assert [one.host for one in place(scheduler, ask("1"), ask("2"), ask("3"))] == ["a", "b", "c"]


def test_requests_of_one_message_fill_hosts_and_never_overfill_them() -> None:
    scheduler = make_scheduler(make_host("a", vcpus=3), make_host("b", vcpus=2))
    placements = place(scheduler, *(ask(str(number)) for number in range(7)))
    assert Counter(one.host for one in placements) == {"a": 3, "b": 2, "": 2}
    assert free(scheduler, "a")[1] == free(scheduler, "b")[1] == 0


def test_what_is_free_has_ratios_applied_and_reserved_amounts_left_out() -> None:
    host = make_host(
        "h",
        vcpus=4,
        ram_mib=1001,
        disk_gib=11,
        cpu_ratio=1.5,
        ram_ratio=1.5,
        disk_ratio=0.5,
        reserved_vcpus=1,
        reserved_ram_mib=100,
        reserved_disk_gib=2,
    )
    assert free(make_scheduler(host), "h") == (1351, 4, 4, 0, 0)


def test_usage_of_the_snapshot_is_taken() -> None:
    scheduler = Scheduler(SchedulerConfig(), random.Random(1))
    scheduler.load([(make_host("h"), HostUsage(host="h", vcpus=1, ram_mib=2, disk_gib=3, servers=4))])
    assert free(scheduler, "h") == (8190, 3, 97, 0, 4)


@pytest.mark.parametrize("closed", [{"up": False}, {"enabled": False}, {"forced_down": True}])
def test_a_host_out_of_service_takes_no_servers_until_it_is_back(closed: dict[str, bool]) -> None:
    scheduler = make_scheduler(make_host("h", **closed))
    (refused,) = place(scheduler, ask("s"))
    assert refused.host == ""
    assert FilterCount(filter="ComputeFilter", before=1, after=0) in refused.filters
    assert refused.hint == "with hosts that are down or disabled back in service: 1 host would fit"
    scheduler.apply(HostChanged(host=make_host("h")))
    assert place(scheduler, ask("s"))[0].host == "h"


def test_an_overcommitted_host_is_chosen_only_for_nothing_of_it() -> None:
    scheduler = make_scheduler(make_host("h"))
    place(scheduler, ask("s"))
    scheduler.apply(HostChanged(host=make_host("h", disk_gib=5)))
    assert free(scheduler, "h")[2] == -5
    assert place(scheduler, ask("t", Claim(vcpus=1, ram_mib=1, disk_gib=1)))[0].host == ""
    assert place(scheduler, ask("u", Claim(vcpus=1, ram_mib=1, disk_gib=0)))[0].host == "h"


def test_zone_architecture_and_requested_host_are_kept() -> None:
    scheduler = make_scheduler(
        make_host("a", zone="east"), make_host("b", architecture="aarch64"), make_host("c", vcpus=1)
    )
    assert place(scheduler, ask("1", zone="east"))[0].host == "a"
    assert place(scheduler, ask("2", architecture="aarch64"))[0].host == "b"
    assert place(scheduler, ask("3", requested_host="c"))[0].host == "c"
    assert place(scheduler, ask("4", architecture="AMD64", zone="nova"))[0].host == ""  # c is full
    assert place(scheduler, ask("5", zone="west"))[0].host == ""
    unknown = place(scheduler, ask("6", requested_host="d"))[0]
    assert unknown.hint == "there is no compute host named d"


def test_excluded_hosts_are_passed_over_for_that_request_only() -> None:
    scheduler = make_scheduler(make_host("a"), make_host("b", vcpus=2))
    first, second, third = place(
        scheduler, ask("1", excluded_hosts=("a", "gone")), ask("2", excluded_hosts=("a", "b")), ask("3")
    )
    assert (first.host, first.alternates) == ("b", ())
    assert second.host == ""
    assert FilterCount(filter="RetryFilter", before=2, after=0) in second.filters
    assert second.hint == "with the excluded hosts allowed: 2 hosts would fit"
    assert third.host == "a"


def test_a_refusal_counts_each_filter_and_names_the_best_relaxation() -> None:
    hosts = [make_host(f"full{number:02}", ram_mib=2048, zone="east") for number in range(37)]
    hosts += [make_host("down", up=False, zone="east"), make_host("other", zone="west")]
    hosts += [make_host("arm", architecture="aarch64", zone="east"), make_host("flat", disk_gib=1, zone="east")]
    (refused,) = place(
        make_scheduler(*hosts),
        ask("s", Claim(vcpus=1, ram_mib=4096, disk_gib=20), zone="east", architecture="x86_64"),
    )
    assert [(one.filter, one.before, one.after) for one in refused.filters] == [
        ("AvailabilityZoneFilter", 41, 40),
        ("RamFilter", 40, 3),
        ("CoreFilter", 3, 3),
        ("DiskFilter", 3, 2),
        ("MachineSizeFilter", 2, 2),
        ("ComputeFilter", 2, 1),
        ("ImagePropertiesFilter", 1, 0),
    ]
    assert refused.hint == "with 2048 MiB less RAM: 37 hosts would fit"


@pytest.mark.parametrize(
    ("claim", "hint"),
    [
        (Claim(vcpus=6, ram_mib=1, disk_gib=0), "with 2 vCPU less: 1 host would fit"),
        (Claim(vcpus=1, ram_mib=1, disk_gib=101), "with 1 GiB less disk: 1 host would fit"),
        (Claim(vcpus=1, ram_mib=10**12, disk_gib=0), f"with {10**12 - 8192} MiB less RAM: 1 host would fit"),
        (Claim(vcpus=5, ram_mib=9000, disk_gib=0), "no single change would make it fit"),
    ],
)
def test_the_hint_says_how_much_less_would_do(claim: Claim, hint: str) -> None:
    assert place(make_scheduler(make_host("h")), ask("s", claim))[0].hint == hint


def test_the_hint_for_a_requested_host_and_for_no_hosts() -> None:
    scheduler = make_scheduler(make_host("a", vcpus=0), make_host("b"), make_host("c"))
    (refused,) = place(scheduler, ask("s", requested_host="a"))
    assert FilterCount(filter="RequestedHostFilter", before=2, after=0) in refused.filters
    assert refused.hint == "on another host than the one asked for: 2 hosts would fit"
    assert place(make_scheduler(), ask("s"))[0].hint == "no compute host has reported yet"


def test_a_refused_batch_is_explained_on_the_fleet_as_it_is() -> None:
    """Equal requests share an explanation only while nothing is claimed between them."""
    scheduler = make_scheduler(make_host("a", vcpus=2, ram_mib=4096))
    big, small = Claim(vcpus=1, ram_mib=8192, disk_gib=0), Claim(vcpus=1, ram_mib=3072, disk_gib=0)
    first, again, placed, after = place(scheduler, ask("1", big), ask("2", big), ask("3", small), ask("4", big))
    assert first.hint == again.hint == "with 4096 MiB less RAM: 1 host would fit"
    assert placed.host == "a"
    assert after.hint == "with 7168 MiB less RAM: 1 host would fit"


def test_asking_again_gives_the_same_host_and_takes_nothing_more() -> None:
    scheduler = make_scheduler(make_host("a"), make_host("b"))
    first = place(scheduler, ask("s"))[0]
    before = free(scheduler, first.host)
    assert place(scheduler, ask("s"), ask("s"))[0].host == first.host
    scheduler.apply(Claimed(server_id="s", host=first.host, claim=SMALL))
    assert place(scheduler, ask("s"))[0].host == first.host
    assert free(scheduler, first.host)[:3] == before[:3]


def test_a_choice_counts_once_from_choice_to_commit_and_its_io_operation_ends() -> None:
    scheduler = make_scheduler(make_host("h"))
    place(scheduler, ask("s"))
    assert free(scheduler, "h") == (7168, 3, 90, 1, 1)
    scheduler.apply(Claimed(server_id="s", host="h", claim=SMALL))
    assert free(scheduler, "h") == (7168, 3, 90, 1, 1)
    scheduler.apply(ServerChanged(server_id="s", project_id="p", status="BUILD", task_state="spawning", host="h"))
    assert free(scheduler, "h") == (7168, 3, 90, 1, 1)
    scheduler.apply(ServerChanged(server_id="s", project_id="p", status="ACTIVE", task_state=None, host="h"))
    assert free(scheduler, "h") == (7168, 3, 90, 0, 1)
    scheduler.apply(Released(server_id="s", host="h", claim=SMALL))
    assert free(scheduler, "h") == (8192, 4, 100, 0, 0)


def test_a_retry_that_excludes_the_chosen_host_gives_its_claim_back() -> None:
    scheduler = make_scheduler(make_host("a"), make_host("b"))
    assert place(scheduler, ask("s"))[0].host == "a"
    assert place(scheduler, ask("s", excluded_hosts=("a",)))[0].host == "b"
    assert free(scheduler, "a") == (8192, 4, 100, 0, 0)


@pytest.mark.parametrize("change", [{"up": False}, {"vcpus": 0}])
def test_asking_again_chooses_anew_when_the_chosen_host_cannot_keep_its_claim(change: dict[str, Any]) -> None:
    scheduler = make_scheduler(make_host("a"), make_host("b"))
    assert place(scheduler, ask("s"))[0].host == "a"
    scheduler.apply(HostChanged(host=make_host("a", **change)))
    assert place(scheduler, ask("s"))[0].host == "b"
    assert free(scheduler, "a")[3:] == (0, 0)


def test_a_server_that_moves_holds_two_hosts_until_the_first_is_released() -> None:
    scheduler = make_scheduler(make_host("a"), make_host("b"))
    scheduler.apply(Claimed(server_id="s", host="a", claim=SMALL))
    assert place(scheduler, ask("s", excluded_hosts=("a",)))[0].host == "b"
    scheduler.apply(Claimed(server_id="s", host="b", claim=SMALL))
    assert free(scheduler, "a")[4] == free(scheduler, "b")[4] == 1
    scheduler.apply(Released(server_id="s", host="a", claim=SMALL))
    assert free(scheduler, "a")[4] == 0
    assert place(scheduler, ask("s"))[0].host == "b"


def test_a_group_that_is_deleted_while_a_server_of_it_moves_is_forgotten() -> None:
    """Its next host is asked for without the group, and is given up as well."""
    scheduler = make_scheduler(make_host("a"), make_host("b"), make_host("c"))
    group = GroupRule(id="g", policy="affinity")
    place(scheduler, ask("s", group=group))
    scheduler.apply(Claimed(server_id="s", host="a", claim=SMALL, group_id="g"))
    for before, host, after in (("", "a", "b"), ("a", "b", "c")):
        place(scheduler, ask("s", excluded_hosts=tuple({before, host} - {""})))
        scheduler.apply(Released(server_id="s", host=host, claim=SMALL))
        assert scheduler.claims.members("g") == {}
        scheduler.apply(Claimed(server_id="s", host=after, claim=SMALL))
    scheduler.apply(Released(server_id="s", host="c", claim=SMALL))
    assert [free(scheduler, name) for name in "abc"] == [free(make_scheduler(make_host("a")), "a")] * 3


def test_a_new_snapshot_keeps_what_is_pending_unless_it_includes_it() -> None:
    scheduler = make_scheduler(make_host("a"), make_host("b"))
    scheduler.apply(Claimed(server_id="moves", host="a", claim=SMALL))
    place(scheduler, ask("moves", excluded_hosts=("a",)), ask("committed", requested_host="a"))
    place(scheduler, ask("lost", requested_host="a"), ask("open", requested_host="b"))
    usage = HostUsage(host="a", vcpus=2, ram_mib=2048, disk_gib=20, servers=2)
    committed = [Claimed(server_id=server_id, host="a", claim=SMALL) for server_id in ("moves", "committed")]
    scheduler.load([(make_host("a"), usage), (make_host("b"), HostUsage(host="b"))], committed)
    assert scheduler.claims.pending == {"moves": "b", "lost": "a", "open": "b"}
    assert free(scheduler, "a") == (5120, 1, 70, 1, 3)
    assert free(scheduler, "b") == (6144, 2, 80, 2, 2)
    scheduler.load([(make_host("b"), HostUsage(host="b"))])
    assert scheduler.claims.pending == {"moves": "b", "open": "b"}


def test_a_resize_in_place_counts_both_sizes_until_the_old_one_is_released() -> None:
    scheduler = make_scheduler(make_host("a"))
    bigger = Claim(vcpus=2, ram_mib=2048, disk_gib=10)
    scheduler.apply(Claimed(server_id="s", host="a", claim=SMALL))
    assert place(scheduler, ask("s", bigger))[0].host == "a"
    scheduler.apply(Claimed(server_id="s", host="a", claim=bigger))
    assert free(scheduler, "a")[:3] == (5120, 1, 80)
    scheduler.apply(Released(server_id="s", host="a", claim=SMALL))
    assert free(scheduler, "a") == (6144, 2, 90, 1, 1)


def test_an_unconfirmed_choice_is_given_back_when_released_or_too_old() -> None:
    scheduler = make_scheduler(make_host("h"))
    place(scheduler, ask("1"), ask("2"), ask("3"))
    scheduler.release(ReleaseClaims(server_ids=("1", "unknown")))
    assert free(scheduler, "h")[4] == 2
    scheduler.apply(Released(server_id="3", host="", claim=SMALL))
    scheduler.apply(Released(server_id="unknown", host="", claim=SMALL))
    assert free(scheduler, "h")[4] == 1
    assert scheduler.tick(5.0) == ()
    assert scheduler.tick(64.9) == ()
    assert scheduler.tick(65.0) == ("2",)
    assert free(scheduler, "h") == (8192, 4, 100, 0, 0)


def test_events_that_cannot_follow_say_that_the_scheduler_is_out_of_step() -> None:
    scheduler = make_scheduler(make_host("h"))
    for event in (
        Claimed(server_id="s", host="unknown", claim=SMALL),
        Released(server_id="s", host="h", claim=SMALL),
    ):
        with pytest.raises(InternalError) as caught:
            scheduler.apply(event)
        assert caught.value.code == "scheduler_out_of_step"
    assert free(scheduler, "h") == (8192, 4, 100, 0, 0)


def test_a_host_that_goes_takes_its_claims_along_and_may_come_back_empty() -> None:
    scheduler = make_scheduler(make_host("h"))
    place(scheduler, ask("1"), ask("2"))
    scheduler.apply(Claimed(server_id="1", host="h", claim=SMALL))
    scheduler.apply(HostRemoved(host="h"))
    scheduler.apply(HostRemoved(host="h"))
    scheduler.apply(Released(server_id="1", host="h", claim=SMALL))
    assert scheduler.tick(1e9) == ()
    scheduler.apply(HostChanged(host=make_host("h")))
    assert free(scheduler, "h") == (8192, 4, 100, 0, 0)


def test_events_about_other_things_change_nothing() -> None:
    scheduler = make_scheduler(make_host("h"))
    scheduler.apply(ServerChanged(server_id="s", project_id="p", status="ACTIVE", task_state=None, host="h"))
    assert free(scheduler, "h") == (8192, 4, 100, 0, 0)


def test_a_host_larger_than_the_table_can_say_is_as_large_as_it_can_say() -> None:
    scheduler = make_scheduler(make_host("h", ram_mib=2**40))
    assert free(scheduler, "h")[0] == COLUMN_MAX
    assert place(scheduler, ask("s", Claim(vcpus=1, ram_mib=2**41, disk_gib=0)))[0].host == ""
    assert place(scheduler, ask("s"))[0].host == "h"


def test_a_negative_amount_is_refused_before_anything_is_claimed() -> None:
    scheduler = make_scheduler(make_host("h"))
    with pytest.raises(BadRequest):
        place(scheduler, ask("good"), ask("bad", Claim(vcpus=1, ram_mib=-1, disk_gib=0)))
    assert scheduler.claims.pending == {}


@pytest.mark.parametrize("options", [{"policy": "best"}, {"ram_weight_multiplier": float("inf")}])
def test_a_configuration_that_cannot_be_used_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as caught:
        Scheduler(SchedulerConfig(**options), random.Random(1))
    assert str(caught.value.field).startswith("scheduler")


def test_multipliers_turn_spreading_into_packing() -> None:
    options: dict[str, Any] = {f"{name}_weight_multiplier": -1.0 for name in ("ram", "cpu", "disk")} | {
        "io_ops_weight_multiplier": 0.0
    }
    scheduler = make_scheduler(make_host("a", vcpus=8), make_host("b", vcpus=4), **options)
    assert [one.host for one in place(scheduler, ask("1"), ask("2"), ask("3"))] == ["b", "b", "b"]


def test_a_hint_without_sense_refuses_its_own_server_only() -> None:
    scheduler = make_scheduler(make_host("a"), make_host("b"), enabled_filters=("ComputeFilter", "JsonFilter"))
    bad, good = place(scheduler, ask("bad", hints={"query": "[no json"}), ask("good"))
    assert (bad.host, good.host) == ("", "a")
    assert bad.hint


def test_a_required_metric_is_not_missed_on_the_only_host() -> None:
    options: dict[str, Any] = {"metrics_weight_setting": ("load=1.0",), "metrics_required": True}
    assert place(make_scheduler(make_host("only"), **options), ask("s"))[0].host == "only"
    (refused,) = place(make_scheduler(make_host("a"), make_host("b"), **options), ask("s"))
    assert refused.host == ""
    assert "load" in refused.hint


def test_all_or_none_leaves_nothing_taken_when_one_does_not_fit() -> None:
    scheduler = make_scheduler(make_host("a", vcpus=2), make_host("b", vcpus=1))
    four = place(scheduler, ask("1", alike=("2", "3", "4"), all_or_none=True))
    assert [one.host for one in four] == ["", "", "", ""]
    assert all(one.filters and one.hint for one in four)
    assert free(scheduler, "a")[1:] == (2, 100, 0, 0)
    three = place(scheduler, ask("1", alike=("2", "3"), all_or_none=True))
    assert Counter(one.host for one in three) == {"a": 2, "b": 1}
