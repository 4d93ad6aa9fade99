"""Many servers in one request: what one by one would give, or nothing."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nova_fast.commands import create_servers as module
from nova_fast.commands.addresses import _Numbers, any_addresses, new_macs, usable_in
from nova_fast.commands.registry import run
from nova_fast.model.commands.networks import CreateSubnets, NewSubnet
from nova_fast.model.commands.ports import AddressRequest, CreatePorts, NewPort
from nova_fast.model.commands.servers import CreateServers, RequestedNic
from nova_fast.model.errors import BadRequest, Conflict, OverQuota
from nova_fast.model.networks import AddressPool, Subnet
from nova_fast.model.quotas import UNLIMITED, Quota, Usage
from nova_fast.queries import quotas
from nova_fast.state import schema as tables
from nova_fast.state.testing import MemoryStore, memory_store
from nova_fast.state.transaction import Transaction
from tests.unit.conductor.player import ALICE, FLAVOR, Cloud
from tests.unit.state.plain import PlainTransaction
from tests.unit.state.test_store import contents

COUNT = 40


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with memory_store() as store:
        yield roomy(Cloud(store))


def roomy(cloud: Cloud, **limits: int) -> Cloud:
    roomy = dict.fromkeys(("instances", "cores", "ram", "port"), UNLIMITED) | limits
    cloud.commit(lambda tx: tx.put(tables.QUOTAS, Quota(project_id=ALICE.project_id, limits=roomy)))
    return cloud


def many(cloud: Cloud, count: int = COUNT, **fields: Any) -> CreateServers:
    return cloud.wish(min_count=count, max_count=count, multi_name=True, **fields)


def rows_of(store: MemoryStore, request: CreateServers, kind: type[Transaction]) -> Any:
    def work(tx: Transaction) -> Any:
        tx.__class__ = kind
        return run(tx, request)

    store.run(work)
    return contents(store)


@pytest.mark.parametrize("request_id", ["", "req-1"])
def test_a_bulk_create_leaves_the_bytes_of_plain_writes(request_id: str) -> None:
    found = []
    for kind in (Transaction, PlainTransaction):
        with memory_store() as store:
            cloud = roomy(Cloud(store))
            nics = (RequestedNic(network_id=cloud.network_id, tag="a"), RequestedNic(network_id=cloud.network_id))
            caller = msgspec.structs.replace(ALICE, request_id=request_id)
            asked = many(
                cloud, caller=caller, networks=nics, user_data=b"x", config_drive=True, admin_password="p",
                metadata={"a": "b"}, tags=("t", "s"),
            )  # fmt: skip
            found.append(rows_of(store, asked, kind))
    assert found[0] == found[1]


def test_many_are_what_one_by_one_would_be(cloud: Cloud) -> None:
    """But for ids, numbers in names, and which of them has which address."""
    together = cloud.run(many(cloud, admin_password="secret")).server_ids
    apart = [cloud.create() for _ in range(COUNT)]
    odd = {"id", "number", "name", "hostname", "created_at_us", "updated_at_us", "reservation_id", "launch_index"}
    plain = [{k: v for k, v in msgspec.structs.asdict(cloud.server(i)).items() if k not in odd} for i in apart]
    assert [
        {k: v for k, v in msgspec.structs.asdict(cloud.server(i)).items() if k not in odd} for i in together
    ] == plain
    servers = [cloud.server(server_id) for server_id in together]
    assert [s.name for s in servers] == [f"vm-{n + 1}" for n in range(COUNT)]
    assert [s.launch_index for s in servers] == list(range(COUNT))
    assert len({s.number for s in servers}) == COUNT
    ips = [cloud.ports(server_id)[0].fixed_ips[0].ip_address for server_id in (*together, *apart)]
    assert ips == [f"10.0.0.{n + 2}" for n in range(2 * COUNT)]
    assert [sorted(cloud.actions(i)) for i in together] == [["create"]] * COUNT
    workflows = [cloud.workflow(server_id) for server_id in together]
    assert {w.admin_password for w in workflows if w} == {""}, "only a config drive needs it"
    assert None not in workflows
    used = cloud.store.read(lambda r: quotas.usage(r, ALICE.project_id))
    assert (used.instances, used.cores, used.ram, used.ports) == (
        2 * COUNT, 2 * COUNT * FLAVOR.vcpus, 2 * COUNT * FLAVOR.ram_mib, 2 * COUNT,
    )  # fmt: skip


def test_all_of_them_come_up_and_go(cloud: Cloud) -> None:
    made = cloud.run(many(cloud, 20)).server_ids
    cloud.settle()
    assert [cloud.server(server_id).vm_state for server_id in made] == ["active"] * 20
    for server_id in made:
        cloud.delete(server_id)
        cloud.settle()
    cloud.assert_gone(made[0])


def test_a_bulk_that_does_not_fit_whole_leaves_nothing(cloud: Cloud) -> None:
    free = 254 - 2  # the gateway has one
    network = RequestedNic(network_id=cloud.network_id)
    assert isinstance(cloud.refused(many(cloud, free + 2)), Conflict)
    assert isinstance(cloud.refused(many(cloud, free // 2 + 2, networks=(network, network))), Conflict)
    cloud.run(many(cloud, free + 1))
    assert isinstance(cloud.refused(cloud.wish()), Conflict)
    roomy(cloud, port=free + COUNT)
    assert isinstance(cloud.refused(many(cloud)), OverQuota)


def test_what_is_too_large_for_one_transaction_is_refused(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SERVERS_MAX", 20)
    monkeypatch.setattr(module, "USER_DATA_BYTES_MAX", 200)
    assert isinstance(cloud.refused(many(cloud, 21)), BadRequest)
    assert isinstance(cloud.refused(many(cloud, 20, user_data=bytes(11))), BadRequest)
    assert len(cloud.run(cloud.wish(min_count=2, max_count=21, user_data=bytes(10))).server_ids) == 20


def test_addresses_that_are_taken_are_passed_over_and_the_next_subnet_goes_on(cloud: Cloud) -> None:
    network_id = cloud.network_id
    taken = (NewPort(network_id=network_id, fixed_ips=(AddressRequest(ip_address="10.0.0.5"),)),)
    cloud.run(CreatePorts(caller=ALICE, ports=taken))
    for cidr, version in (("10.9.0.0/28", 4), ("fd00::/112", 6)):
        subnet = NewSubnet(network_id=network_id, ip_version=version, cidr=cidr)
        cloud.run(CreateSubnets(caller=ALICE, subnets=(subnet,)))
    made = cloud.run(many(cloud, 255)).server_ids
    ips = [[ip.ip_address for ip in cloud.ports(server_id)[0].fixed_ips] for server_id in made]
    assert [ip[0] for ip in ips[:5]] == ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.6", "10.0.0.7"]
    assert [ip[0] for ip in ips[-4:]] == ["10.0.0.254", "10.9.0.2", "10.9.0.3", "10.9.0.4"]
    assert [ip[1] for ip in ips[:3]] == ["fd00::2", "fd00::3", "fd00::4"], "one of each version"
    assert len({address for both in ips for address in both}) == 510
    slaac = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
    cloud.run(CreateSubnets(caller=ALICE, subnets=(msgspec.structs.replace(subnet, cidr="fd01::/64", **slaac),)))
    for server_id in cloud.run(many(cloud, 2)).server_ids:
        mine = cloud.ports(server_id)[0].fixed_ips
        assert [ip.ip_address[:6] for ip in mine] == ["10.9.0", "fd01::"], "no pool where guests make their own"


def test_macs_are_all_different(cloud: Cloud) -> None:
    drawn = iter([b"\1\1\1" * 3, b"\1\1\1\2\2\2", b"\3\3\3"])

    def work(tx: Transaction) -> list[str]:
        tx._entropy = lambda _count: next(drawn)
        return new_macs(tx, cloud.network_id, 3)

    assert cloud.store.run(work) == ["fa:16:3e:01:01:01", "fa:16:3e:02:02:02", "fa:16:3e:03:03:03"]


def test_a_network_without_subnets_gives_no_address(cloud: Cloud) -> None:
    network = cloud.store.read(lambda r: r.get(tables.NETWORKS, cloud.network_id))
    bare = msgspec.structs.replace(network, id="bare")
    assert cloud.store.run(lambda tx: any_addresses(tx, bare, [], ["m", "n"])) == [(), ()]


@settings(max_examples=50, deadline=None)
@given(st.sampled_from((28, 29, 30, 31, 32)), st.integers(0, 15), st.booleans())
@example(28, 14, True)
def test_numbers_are_usable_as_addresses_are(prefix: int, gateway: int, metadata: bool) -> None:
    base = "169.254.169.240" if metadata else "10.0.0.240"
    for version, cidr in ((4, f"{base}/{prefix}"), (6, f"fe80::a9fe:a9f0/{prefix + 96}")):
        first = int(ipaddress.ip_network(cidr, strict=False).network_address)
        kind = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
        subnet = Subnet(
            id="s", network_id="n", project_id="p", name="", ip_version=version, cidr=cidr, created_at_us=1,
            updated_at_us=1, gateway_ip=str(kind(first + gateway)), pools=(AddressPool(start=base, end=base),),
        )  # fmt: skip
        numbers = _Numbers(subnet.cidr, subnet.gateway_ip, subnet.pools)
        for number in range(first - 2, first + 18):
            address = kind(number)
            assert numbers.usable(number) == (usable_in(subnet, address) and str(address) != subnet.gateway_ip)


_LIMITS = st.one_of(st.just(UNLIMITED), st.integers(0, 40))


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(_LIMITS, _LIMITS, _LIMITS), st.tuples(*[st.integers(0, 20)] * 3), st.integers(1, 30), st.integers(0, 30)
)
def test_as_many_as_the_quota_allows(
    limits: tuple[int, int, int], used: tuple[int, int, int], minimum: int, more: int
) -> None:
    names, flavor = ("instances", "cores", "ram"), msgspec.structs.replace(FLAVOR, vcpus=2, ram_mib=used[2] % 3)
    each = (1, flavor.vcpus, flavor.ram_mib)
    request = CreateServers(
        caller=ALICE, name="x", flavor_id="", image_id="", networks="none", min_count=minimum, max_count=minimum + more
    )
    fits = [
        count
        for count in range(minimum, minimum + more + 1)
        if not any(quotas.exceeded(limits[i], used[i], count * each[i]) for i in range(3))
    ]
    with memory_store() as store:

        def work(tx: Transaction) -> int:
            tx.put(tables.QUOTAS, Quota(project_id=ALICE.project_id, limits=dict(zip(names, limits, strict=True))))
            tx.put(tables.USAGES, Usage(project_id=ALICE.project_id, **dict(zip(names, used, strict=True))))
            return module._count(tx, request, flavor)

        assert store.run(work) == max(fits, default=minimum)
