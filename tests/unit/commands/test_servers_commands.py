"""Commands on servers that need no daemon: accepting, counting, naming, locking."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nova_fast.commands.create_servers import hostname_of
from nova_fast.model.commands.security_groups import CreateSecurityGroups, NewSecurityGroup
from nova_fast.model.commands.servers import (
    ChangeServerTag,
    DeleteServer,
    LockServer,
    RequestedNic,
    ResetServerState,
    SetServerMetadata,
    UpdateServer,
)
from nova_fast.model.errors import BadRequest, Conflict, Forbidden, NotFound, OverQuota
from nova_fast.model.identity import Caller
from nova_fast.model.quotas import Quota
from nova_fast.model.states import VmState
from nova_fast.queries import quotas
from nova_fast.state import schema as tables
from nova_fast.state.testing import memory_store
from tests.unit.conductor.player import ADMIN, ALICE, BOB, FLAVOR, IMAGE_ID, Cloud


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with memory_store() as store:
        yield Cloud(store)


def test_what_is_accepted_is_counted_and_has_its_addresses(cloud: Cloud) -> None:
    server_id = cloud.create()
    used = cloud.store.read(lambda r: quotas.usage(r, ALICE.project_id))
    assert (used.instances, used.cores, used.ram, used.ports) == (1, FLAVOR.vcpus, FLAVOR.ram_mib, 1)
    assert [ip.ip_address for ip in cloud.ports(server_id)[0].fixed_ips] == ["10.0.0.2"]


def test_as_many_are_made_as_the_quota_allows_and_not_fewer_than_asked(cloud: Cloud) -> None:
    made = cloud.run(
        cloud.wish(name="a", min_count=2, max_count=50, multi_name=True, hostname="h.example.org")
    ).server_ids
    assert len(made) == 10
    rows = [cloud.server(server_id) for server_id in made]
    assert [row.name for row in rows] == [f"a-{n}" for n in range(1, 11)]
    assert rows[9].hostname == "h-10.example.org"
    refused = cloud.refused(cloud.wish())
    assert isinstance(refused, OverQuota)
    assert refused.details["resources"] == "instances"


def test_one_server_of_a_range_has_no_number(cloud: Cloud) -> None:
    cloud.commit(lambda tx: tx.put(tables.QUOTAS, Quota(project_id=ALICE.project_id, limits={"instances": 1})))
    (made,) = cloud.run(cloud.wish(name="a", min_count=1, max_count=5, multi_name=True)).server_ids
    assert cloud.server(made).name == "a"


def test_an_address_or_a_port_is_not_given_to_several_servers(cloud: Cloud) -> None:
    for nic in (RequestedNic(network_id=cloud.network_id, fixed_ip="10.0.0.9"), RequestedNic(port_id="x")):
        assert isinstance(cloud.refused(cloud.wish(networks=(nic,), max_count=2)), BadRequest)


def test_what_is_named_and_not_there_is_a_bad_request_that_says_where(cloud: Cloud) -> None:
    network = RequestedNic(network_id=cloud.network_id)
    for fields, field in (
        ({"flavor_id": "x"}, "flavorRef"),
        ({"image_id": "x" * 600}, "imageRef"),
        ({"networks": (RequestedNic(port_id="x" * 600),)}, "networks"),
        ({"networks": (RequestedNic(network_id="x"),)}, "networks"),
        ({"networks": (RequestedNic(network_id=cloud.network_id, fixed_ip="10.0.0.1"),)}, "networks"),
        ({"networks": (network,), "security_groups": ("no-such",)}, "security_groups"),
        ({"key_name": "x" * 600}, "key_name"),
        ({"zone": "mars"}, "availability_zone"),
    ):
        refused = cloud.refused(cloud.wish(**fields))
        assert isinstance(refused, BadRequest), fields
        assert refused.field == field


def test_groups_are_found_by_name(cloud: Cloud) -> None:
    made = cloud.run(CreateSecurityGroups(caller=ALICE, groups=(NewSecurityGroup(name="web"),))).groups[0].group
    assert cloud.ports(cloud.create(security_groups=("web",)))[0].security_groups == (made.id,)


def test_a_token_without_a_project_makes_no_server(cloud: Cloud) -> None:
    system = Caller(user_id="root", project_id="", roles=("admin",), system=True)
    assert isinstance(cloud.refused(cloud.wish(system, networks="none")), Forbidden)


def test_another_projects_server_is_not_found(cloud: Cloud) -> None:
    server_id = cloud.active()
    for request in (
        DeleteServer(caller=BOB, server_id=server_id),
        UpdateServer(caller=BOB, server_id=server_id, name="x"),
        LockServer(caller=BOB, server_id=server_id, locked=True),
        SetServerMetadata(caller=BOB, server_id=server_id, metadata={}),
        ChangeServerTag(caller=BOB, server_id=server_id, tag="x", present=True),
    ):
        assert isinstance(cloud.refused(request), NotFound)


def test_an_owner_does_not_take_over_an_admins_lock(cloud: Cloud) -> None:
    server_id = cloud.active()
    cloud.run(LockServer(caller=ADMIN, server_id=server_id, locked=True))
    cloud.run(LockServer(caller=ALICE, server_id=server_id, locked=True))
    assert isinstance(cloud.refused(LockServer(caller=ALICE, server_id=server_id, locked=False)), Forbidden)
    assert isinstance(cloud.refused(DeleteServer(caller=ALICE, server_id=server_id)), Conflict)
    cloud.run(LockServer(caller=ADMIN, server_id=server_id, locked=False))
    cloud.delete(server_id)
    cloud.settle()
    cloud.assert_gone(server_id)


def test_state_is_not_reset_under_a_running_operation(cloud: Cloud) -> None:
    server_id = cloud.create()
    reset = ResetServerState(caller=ADMIN, server_id=server_id, vm_state=VmState.ACTIVE)
    assert isinstance(cloud.refused(reset), Conflict)


def test_a_new_host_name_reaches_the_name_server_of_its_host(cloud: Cloud) -> None:
    server_id = cloud.active()
    before = cloud.store.read(lambda r: r.need(tables.HOST_NETWORKS, "h1", "Host")).wanted_generation
    cloud.run(UpdateServer(caller=ALICE, server_id=server_id, name="other"))
    assert cloud.store.read(lambda r: r.need(tables.HOST_NETWORKS, "h1", "Host")).wanted_generation == before
    cloud.run(UpdateServer(caller=ALICE, server_id=server_id, hostname="other"))
    assert cloud.store.read(lambda r: r.need(tables.HOST_NETWORKS, "h1", "Host")).wanted_generation > before


def test_an_image_larger_than_the_disk_is_refused(cloud: Cloud) -> None:
    image = cloud.store.read(lambda r: r.need(tables.IMAGES, IMAGE_ID, "Image"))
    large = type(image)(**{f: getattr(image, f) for f in image.__struct_fields__} | {"virtual_size": 2 << 30})
    cloud.commit(lambda tx: tx.put(tables.IMAGES, large))
    assert cloud.refused(cloud.wish()).code == "flavor_disk_too_small"


@pytest.mark.parametrize(
    ("name", "hostname"),
    [
        ("My VM_1", "my-vm-1"),
        ("ünï", "n"),
        ("---", "server-i"),
        ("x" * 80, "x" * 63),
        ("a.b", "ab"),
        ("日本", "server-i"),
    ],
)
def test_host_names_are_made_of_display_names(name: str, hostname: str) -> None:
    assert hostname_of(name, "i") == hostname
