"""ImagePropertiesWeigher is fed: by choices, by what is committed and given back, and by a snapshot at start."""

from __future__ import annotations

from nova_fast.model.events import Claimed, HostRemoved, Released
from nova_fast.model.hosts import HostUsage
from nova_fast.model.tasks import ReleaseClaims
from nova_fast.scheduler.select import Scheduler

from .fleet import SMALL, ask, make_host, make_scheduler, place

LINUX, BSD = {"os_distro": "debian", "hw_disk_bus": "virtio", "licence": "x"}, {"os_distro": "openbsd"}


def weighing(**options: float) -> Scheduler:
    hosts = [make_host(name, vcpus=8, ram_mib=8192) for name in ("a", "b", "c")]
    return make_scheduler(*hosts, **({"image_props_weight_multiplier": 1000.0} | options))


def properties(scheduler: Scheduler, host: str) -> dict[tuple[str, str], int]:
    return dict(scheduler.hosts.state_in(scheduler.hosts[host].row).image_properties)


def test_servers_gather_where_their_image_is() -> None:
    """RAM and CPUs would spread them: a row of hosts that are alike, the emptiest first."""
    scheduler = weighing()
    first, second = place(scheduler, ask("1", image_properties=LINUX), ask("2", image_properties=BSD))
    assert first.host != second.host
    third, fourth = place(scheduler, ask("3", image_properties=BSD), ask("4", image_properties=LINUX))
    assert (third.host, fourth.host) == (second.host, first.host)
    assert properties(scheduler, first.host) == {("os_distro", "debian"): 2, ("hw_disk_bus", "virtio"): 2}
    scattering = weighing(image_props_weight_multiplier=-1000.0)
    placed = [place(scattering, ask(str(number), image_properties=LINUX))[0].host for number in range(3)]
    assert sorted(placed) == ["a", "b", "c"]


def test_a_choice_counts_until_it_is_given_up_and_a_commit_until_it_is_given_back() -> None:
    scheduler = weighing()
    (chosen,) = place(scheduler, ask("1", image_properties=BSD))
    scheduler.release(ReleaseClaims(server_ids=("1",)))
    assert properties(scheduler, chosen.host) == {}
    (chosen,) = place(scheduler, ask("1", image_properties=BSD))
    scheduler.apply(Claimed(server_id="1", host=chosen.host, claim=SMALL, image_properties=BSD))
    scheduler.apply(Claimed(server_id="2", host="c", claim=SMALL, image_properties=LINUX))
    assert properties(scheduler, chosen.host)["os_distro", "openbsd"] == 1
    assert properties(scheduler, "c")["os_distro", "debian"] == 1
    scheduler.apply(Released(server_id="1", host=chosen.host, claim=SMALL, image_properties=BSD))
    assert ("os_distro", "openbsd") not in properties(scheduler, chosen.host)
    place(scheduler, ask("3", image_properties=LINUX))
    scheduler.apply(HostRemoved(host="c"))
    scheduler.apply(Claimed(server_id="3", host="a", claim=SMALL, image_properties=LINUX))
    assert properties(scheduler, "a")["os_distro", "debian"] == 1


def test_a_commit_elsewhere_moves_it() -> None:
    scheduler = weighing()
    (chosen,) = place(scheduler, ask("1", image_properties=BSD))
    other = "b" if chosen.host != "b" else "c"
    scheduler.apply(Claimed(server_id="1", host=other, claim=SMALL, image_properties=BSD))
    assert properties(scheduler, chosen.host) == {}
    assert properties(scheduler, other) == {("os_distro", "openbsd"): 1}


def test_a_new_snapshot_counts_what_is_placed_and_keeps_what_is_pending() -> None:
    scheduler = weighing()
    (chosen,) = place(scheduler, ask("1", image_properties=BSD))
    scheduler.load([(known.host, HostUsage(host=known.host.name)) for known in list(scheduler.hosts)])
    scheduler.hosts.images.add([("a", LINUX), ("a", BSD)])
    assert properties(scheduler, "a")["os_distro", "debian"] == 1
    assert properties(scheduler, chosen.host)["os_distro", "openbsd"] == (2 if chosen.host == "a" else 1)


def test_nothing_is_kept_where_nobody_weighs_it() -> None:
    scheduler = weighing(image_props_weight_multiplier=0.0)
    (chosen,) = place(scheduler, ask("1", image_properties=BSD))
    scheduler.apply(Claimed(server_id="2", host="c", claim=SMALL, image_properties=LINUX))
    assert not scheduler.hosts.images.on
    assert properties(scheduler, chosen.host) == {} == properties(scheduler, "c")
