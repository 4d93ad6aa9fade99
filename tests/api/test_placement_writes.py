"""Placement written through the real HTTP stack: statuses, codes and forms of each microversion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nova_fast.queries.check.hosts import hosts as recount_hosts
from nova_fast.queries.check.placement import placement as recount_placement
from tests.api.host_world import add_host, add_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.api.conftest import Cloud, Reply

POOL, BELOW = "aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000002"
CONSUMER, OTHER = "cccccccc-0000-4000-8000-000000000001", "cccccccc-0000-4000-8000-000000000002"
AGGREGATE = "dddddddd-0000-4000-8000-000000000001"
NEWEST = "1.39"


class Api:
    """Requests of an admin to the placement face."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud, self._admin = cloud, cloud.admin

    def ask(self, method: str, path: str, body: Any = None, version: str = NEWEST) -> Reply:
        return self._admin.request(method, "placement", path, json=body, microversion=version)

    def done(self, method: str, path: str, body: Any = None, version: str = NEWEST) -> Any:
        reply = self.ask(method, path, body, version)
        assert reply.status < 300, (method, path, reply.status, reply.body)
        return reply.json if reply.body else None

    def refused(self, status: int, method: str, path: str, body: Any = None, version: str = NEWEST) -> dict[str, Any]:
        reply = self.ask(method, path, body, version)
        assert reply.status == status, (method, path, reply.status, reply.body)
        [error] = reply.json["errors"]
        assert error["status"] == status
        return dict(error)

    def pool(self, uuid: str = POOL, name: str = "pool", **inventories: int) -> None:
        """A provider with inventories."""
        self.done("POST", "/resource_providers", {"name": name, "uuid": uuid})
        amounts = {kind: {"total": total} for kind, total in inventories.items()}
        body = {"inventories": amounts, "resource_provider_generation": 0}
        self.done("PUT", f"/resource_providers/{uuid}/inventories", body)


def allocation(
    provider: str, generation: int | None = None, *, kind: str = "JOB", project: str = "p", **resources: int
) -> dict[str, Any]:
    """The body of a consumer's allocation, newest form."""
    return {
        "allocations": {provider: {"resources": resources}} if resources else {},
        "project_id": project,
        "user_id": "u",
        "consumer_generation": generation,
        "consumer_type": kind,
    }


@pytest.fixture
def faces() -> tuple[str, ...]:
    return ("placement",)


@pytest.fixture
def api(cloud: Cloud) -> Iterator[Api]:
    yield Api(cloud)
    with cloud.store.snapshot() as snapshot:
        found = [f.sentence for one in (recount_hosts, recount_placement) for f in one(snapshot)]
    assert found == []


def test_a_provider_is_made_renamed_moved_and_removed(api: Api) -> None:
    old = api.ask("POST", "/resource_providers", {"name": "pool", "uuid": POOL.replace("-", "")}, "1.19")
    assert (old.status, old.body) == (201, b"")
    assert old.headers["location"].endswith(f"/resource_providers/{POOL}")
    made = api.ask("POST", "/resource_providers", {"name": "below", "uuid": BELOW, "parent_provider_uuid": POOL})
    assert made.status == 200
    assert made.json | {"links": []} == {
        "uuid": BELOW, "name": "below", "generation": 0, "links": [], "parent_provider_uuid": POOL,
        "root_provider_uuid": POOL,
    }  # fmt: skip
    for body in ({"name": "pool"}, {"name": "new", "uuid": POOL}):
        assert api.refused(409, "POST", "/resource_providers", body)["code"] == "placement.duplicate_name"
    api.refused(400, "POST", "/resource_providers", {"name": "x", "parent_provider_uuid": CONSUMER})
    api.refused(400, "POST", "/resource_providers", {"name": "x", "uuid": "no"})
    api.refused(400, "POST", "/resource_providers", {"name": "x" * 201})
    api.refused(400, "POST", "/resource_providers", {"name": ""})
    api.refused(400, "POST", "/resource_providers", {"name": "x", "parent_provider_uuid": POOL}, "1.13")
    path = f"/resource_providers/{BELOW}"
    assert api.done("PUT", path, {"name": "renamed"}, "1.0")["name"] == "renamed"
    api.refused(400, "PUT", path, {"name": "renamed", "parent_provider_uuid": None}, "1.36")
    api.refused(400, "PUT", f"/resource_providers/{POOL}", {"name": "pool", "parent_provider_uuid": BELOW})
    api.refused(409, "PUT", path, {"name": "pool"})
    error = api.refused(409, "DELETE", f"/resource_providers/{POOL}")
    assert error["code"] == "placement.resource_provider.cannot_delete_parent"
    assert api.done("PUT", path, {"name": "renamed", "parent_provider_uuid": None})["root_provider_uuid"] == BELOW
    for uuid in (POOL, BELOW):
        assert api.ask("DELETE", f"/resource_providers/{uuid}").status == 204
        assert api.refused(404, "DELETE", f"/resource_providers/{uuid}")


def test_inventories_are_written_by_generation(api: Api) -> None:
    api.pool(DISK_GB=100)
    path = f"/resource_providers/{POOL}/inventories"
    made = api.ask("POST", path, {"resource_class": "VGPU", "total": 4, "max_unit": 2})
    assert made.status == 201
    assert made.headers["location"].endswith("/inventories/VGPU")
    assert made.json == {
        "total": 4, "reserved": 0, "min_unit": 1, "max_unit": 2, "step_size": 1, "allocation_ratio": 1.0,
        "resource_provider_generation": 2,
    }  # fmt: skip
    assert (
        api.refused(409, "POST", path, {"resource_class": "VGPU", "total": 4})["code"] == "placement.concurrent_update"
    )
    stale = {"total": 5, "resource_provider_generation": 1}
    assert api.refused(409, "PUT", f"{path}/VGPU", stale)["code"] == "placement.concurrent_update"
    assert api.done("PUT", f"{path}/VGPU", stale | {"resource_provider_generation": 2})["total"] == 5
    api.done("PUT", f"{path}/DISK_GB", {"total": 100, "allocation_ratio": 3e38, "resource_provider_generation": 3})
    summary = api.done("GET", "/allocation_candidates?resources=DISK_GB:1")["provider_summaries"][POOL]
    assert summary["resources"]["DISK_GB"]["capacity"] == 2**63 - 1
    full = {"total": 5, "reserved": 5, "resource_provider_generation": 4}
    api.refused(400, "PUT", f"{path}/VGPU", full, "1.25")
    api.done("PUT", f"{path}/VGPU", full, "1.26")
    api.refused(400, "PUT", f"{path}/VGPU", full | {"reserved": 6, "resource_provider_generation": 5})
    api.refused(404, "PUT", f"{path}/CUSTOM_NO", {"total": 1, "resource_provider_generation": 5})
    api.refused(400, "PUT", f"{path}/VCPU", {"total": 1, "resource_provider_generation": 5})
    for wrong in ({"total": 0}, {"total": 1 << 31}, {"total": "x"}, {}, {"total": 1, "color": "red"}):
        api.refused(400, "POST", path, {"resource_class": "PGPU", **wrong})
    api.done("PUT", f"/allocations/{CONSUMER}", allocation(POOL, DISK_GB=10))
    whole = {"inventories": {}, "resource_provider_generation": 6}
    assert api.refused(409, "PUT", path, whole)["code"] == "placement.inventory.inuse"
    api.refused(409, "DELETE", path)
    api.refused(409, "DELETE", f"{path}/DISK_GB")
    assert api.ask("DELETE", f"{path}/VGPU").status == 204
    api.refused(404, "DELETE", f"{path}/VGPU")
    api.refused(405, "DELETE", path, version="1.4")
    api.done("DELETE", f"/allocations/{CONSUMER}")
    assert api.ask("DELETE", path, version="1.5").status == 204
    assert api.done("GET", path)["inventories"] == {}


def test_a_hosts_inventories_and_traits_are_written_as_any_others(api: Api) -> None:
    host = add_host(api.cloud, "node-1")
    path = f"/resource_providers/{host.uuid}"
    inventories = api.done("GET", f"{path}/inventories")
    inventories["inventories"]["VCPU"] |= {"allocation_ratio": 2.0, "reserved": 1}
    changed = api.done("PUT", f"{path}/inventories", inventories)
    assert changed["resource_provider_generation"] != inventories["resource_provider_generation"]
    assert api.done("GET", f"{path}/inventories") == changed
    summary = api.done("GET", "/allocation_candidates?resources=VCPU:1")["provider_summaries"][host.uuid]
    assert summary["resources"]["VCPU"] == {"capacity": 6, "used": 0}
    assert api.refused(409, "PUT", f"{path}/inventories", inventories)["code"] == "placement.concurrent_update"
    wrong = {"total": 5, "resource_provider_generation": changed["resource_provider_generation"]}
    assert "is what the machine" in api.refused(409, "PUT", f"{path}/inventories/VCPU", wrong)["detail"]
    api.done("PUT", "/traits/CUSTOM_FAST")
    traits = api.done("GET", f"{path}/traits")
    traits["traits"].append("CUSTOM_FAST")
    assert "CUSTOM_FAST" in api.done("PUT", f"{path}/traits", traits)["traits"]
    assert api.refused(409, "PUT", f"{path}/traits", traits)["code"] == "placement.concurrent_update"
    assert api.ask("DELETE", f"{path}/traits").status == 204
    assert "CUSTOM_FAST" not in api.done("GET", f"{path}/traits")["traits"]


def test_aggregates_and_traits_of_other_providers(api: Api) -> None:
    api.pool(DISK_GB=100)
    path = f"/resource_providers/{POOL}"
    assert api.done("PUT", f"{path}/aggregates", [AGGREGATE], "1.1") == {"aggregates": [AGGREGATE]}
    body = {"aggregates": [AGGREGATE], "resource_provider_generation": 1}
    assert api.done("PUT", f"{path}/aggregates", body)["resource_provider_generation"] == 2
    assert api.refused(409, "PUT", f"{path}/aggregates", body)["code"] == "placement.concurrent_update"
    for wrong in (["x"], [AGGREGATE, AGGREGATE]):
        api.refused(400, "PUT", f"{path}/aggregates", wrong, "1.1")
    traits = {"traits": ["MISC_SHARES_VIA_AGGREGATE"], "resource_provider_generation": 2}
    assert api.done("PUT", f"{path}/traits", traits)["resource_provider_generation"] == 3
    again = traits | {"resource_provider_generation": 3}
    assert api.done("PUT", f"{path}/traits", again)["resource_provider_generation"] == 3
    api.refused(400, "PUT", f"{path}/traits", again | {"traits": ["CUSTOM_UNKNOWN"]})

    def names(query: str, version: str = NEWEST) -> list[str]:
        rows = api.done("GET", f"/resource_providers?{query}", version=version)["resource_providers"]
        return [row["name"] for row in rows]

    assert names(f"member_of={AGGREGATE}", "1.3") == names(f"member_of=in:{AGGREGATE},{POOL}") == ["pool"]
    assert names(f"member_of=!{AGGREGATE}") == names(f"member_of={AGGREGATE}&member_of={POOL}") == []
    api.refused(400, "GET", f"/resource_providers?member_of=!{AGGREGATE}", version="1.31")
    api.refused(400, "GET", f"/resource_providers?member_of={AGGREGATE}&member_of={POOL}", version="1.23")
    api.refused(400, "GET", f"/resource_providers?member_of={AGGREGATE},{POOL}")
    assert names("required=MISC_SHARES_VIA_AGGREGATE") == ["pool"]
    assert names("required=!MISC_SHARES_VIA_AGGREGATE") == []
    api.refused(400, "GET", "/resource_providers?required=!MISC_SHARES_VIA_AGGREGATE", version="1.21")


def test_traits_and_classes_are_made_and_removed_unless_in_use(api: Api) -> None:
    assert api.ask("PUT", "/traits/CUSTOM_A").status == 201
    assert api.ask("PUT", "/traits/CUSTOM_A").status == 204
    assert api.ask("PUT", "/resource_classes/CUSTOM_A").status == 201
    assert api.ask("PUT", "/resource_classes/CUSTOM_A").status == 204
    assert api.ask("POST", "/resource_classes", {"name": "CUSTOM_B"}, "1.2").status == 201
    api.refused(409, "POST", "/resource_classes", {"name": "CUSTOM_B"})
    assert api.done("PUT", "/resource_classes/CUSTOM_B", {"name": "CUSTOM_C"}, "1.6")["name"] == "CUSTOM_C"
    for name in ("lower", "STANDARD", "CUSTOM_", "CUSTOM_" + "X" * 249):
        api.refused(400, "PUT", f"/traits/{name}")
        api.refused(400, "PUT", f"/resource_classes/{name}")
        api.refused(400, "POST", "/resource_classes", {"name": name})
    api.pool(CUSTOM_A=1)
    api.done("PUT", f"/resource_providers/{POOL}/traits", {"traits": ["CUSTOM_A"], "resource_provider_generation": 1})
    for path in ("/traits/CUSTOM_A", "/resource_classes/CUSTOM_A"):
        api.refused(409, "DELETE", path)
    assert api.done("GET", "/traits?associated=true")["traits"] == ["CUSTOM_A"]
    api.done("DELETE", f"/resource_providers/{POOL}")
    for path in ("/traits/CUSTOM_A", "/resource_classes/CUSTOM_A", "/resource_classes/CUSTOM_C"):
        assert api.ask("DELETE", path).status == 204
        api.refused(404, "DELETE", path)
        api.refused(404, "GET", path)
    api.refused(400, "DELETE", "/traits/COMPUTE_NODE")
    api.refused(400, "DELETE", "/resource_classes/VCPU")


def test_allocations_take_the_form_of_their_microversion(api: Api) -> None:
    api.pool(VCPU=8)
    path, who = f"/allocations/{CONSUMER}", {"project_id": "p", "user_id": "u"}
    listed = {"allocations": [{"resource_provider": {"uuid": POOL}, "resources": {"VCPU": 1}}]}
    mapped = {"allocations": {POOL: {"resources": {"VCPU": 1}}}}
    assert api.ask("PUT", path, listed, "1.0").status == 204
    nobody = "00000000-0000-0000-0000-000000000000"
    assert api.done("GET", path)["project_id"] == nobody
    api.refused(400, "PUT", path, listed, "1.8")
    api.done("PUT", path, listed | who, "1.8")
    api.refused(400, "PUT", path, listed | who, "1.12")
    api.done("PUT", path, mapped | who, "1.12")
    shown = api.done("GET", path)
    assert (shown["consumer_generation"], shown["consumer_type"], shown["project_id"]) == (3, "unknown", "p")
    api.refused(400, "PUT", path, {"allocations": {}} | who, "1.12")
    api.refused(400, "PUT", path, mapped | who, "1.28")
    api.done("PUT", path, mapped | who | {"consumer_generation": 3}, "1.28")
    mappings = {"mappings": {"": [POOL]}}
    api.refused(400, "PUT", path, mapped | who | mappings | {"consumer_generation": 4}, "1.33")
    api.done("PUT", path, mapped | who | mappings | {"consumer_generation": 4}, "1.34")
    typed = mapped | who | {"consumer_generation": 5, "consumer_type": "JOB"}
    api.refused(400, "PUT", path, typed | {"consumer_type": "job"})
    api.done("PUT", path, typed)
    assert api.done("GET", path)["consumer_type"] == "JOB"
    api.done("PUT", path, typed | {"allocations": {}, "consumer_generation": 6})
    assert api.done("GET", path) == {"allocations": {}}
    api.refused(404, "DELETE", path)


def test_consumer_generations_and_capacity_are_compared(api: Api) -> None:
    api.pool(VCPU=8)
    path = f"/allocations/{CONSUMER}"
    error = api.refused(409, "PUT", path, allocation(POOL, 7, VCPU=1))
    assert (error["code"], error["detail"]) == (
        "placement.concurrent_update", "consumer generation conflict - expected null but got 7",
    )  # fmt: skip
    api.done("PUT", path, allocation(POOL, VCPU=6))
    api.refused(409, "PUT", path, allocation(POOL, VCPU=7))
    api.refused(409, "PUT", f"/allocations/{OTHER}", allocation(POOL, VCPU=3))
    api.refused(409, "PUT", f"/allocations/{OTHER}", allocation(POOL, DISK_GB=1))
    api.refused(400, "PUT", f"/allocations/{OTHER}", allocation(POOL, CUSTOM_UNKNOWN=1))
    api.refused(400, "PUT", f"/allocations/{OTHER}", allocation(BELOW, VCPU=1))
    api.refused(400, "PUT", "/allocations/nobody", allocation(POOL, VCPU=1))
    api.refused(400, "PUT", f"/allocations/{OTHER}", allocation(POOL, VCPU=0))
    assert api.refused(409, "DELETE", f"/resource_providers/{POOL}")["code"] == "placement.resource_provider.inuse"
    both = {CONSUMER: allocation(POOL, 1, VCPU=5), OTHER: allocation(POOL, VCPU=3)}
    assert api.ask("POST", "/allocations", both).status == 204
    taken = api.done("GET", f"/resource_providers/{POOL}/allocations")["allocations"]
    assert {uuid: one["resources"] for uuid, one in taken.items()} == {CONSUMER: {"VCPU": 5}, OTHER: {"VCPU": 3}}
    api.refused(409, "POST", "/allocations", {CONSUMER: allocation(POOL, 2), OTHER: allocation(POOL, 9, VCPU=3)})
    assert api.done("GET", f"/resource_providers/{POOL}/usages")["usages"] == {"VCPU": 8}
    api.done("POST", "/allocations", {CONSUMER: allocation(POOL, 2), OTHER: allocation(POOL, 1)})
    assert api.done("GET", f"/resource_providers/{POOL}/usages")["usages"] == {"VCPU": 0}


def test_a_host_gives_to_servers_and_others_and_says_who_has_what(api: Api) -> None:
    host = add_host(api.cloud, "node-1")
    owner = api.cloud.project("p1").member
    server = add_server(api.cloud, owner, "node-1")
    api.done("PUT", f"/allocations/{CONSUMER}", allocation(host.uuid, project=owner.project_id, VCPU=2, MEMORY_MB=100))
    taken = api.done("GET", f"/resource_providers/{host.uuid}/allocations")["allocations"]
    assert set(taken) == {server.id, CONSUMER}
    usages = api.done("GET", f"/resource_providers/{host.uuid}/usages")["usages"]
    assert usages == {"VCPU": 4, "MEMORY_MB": 1124, "DISK_GB": 12}
    path = f"/usages?project_id={owner.project_id}"
    assert api.done("GET", path, version="1.9")["usages"] == {"VCPU": 4, "MEMORY_MB": 1124, "DISK_GB": 12}
    typed = api.done("GET", path)["usages"]
    assert typed["JOB"] == {"consumer_count": 1, "VCPU": 2, "MEMORY_MB": 100}
    assert typed["INSTANCE"]["consumer_count"] == 1
    assert api.done("GET", f"{path}&consumer_type=all")["usages"]["all"]["consumer_count"] == 2
    assert api.done("GET", f"{path}&consumer_type=unknown")["usages"] == {}
    for method, body in (("PUT", allocation(host.uuid, 1, VCPU=1)), ("DELETE", None)):
        assert "is a server" in api.refused(409, method, f"/allocations/{server.id}", body)["detail"]
    assert "is the compute host" in api.refused(409, "DELETE", f"/resource_providers/{host.uuid}")["detail"]


def test_candidates_go_into_allocations_as_they_are(api: Api) -> None:
    host = add_host(api.cloud, "node-1")
    api.pool(SRIOV_NET_VF=4)
    path = f"/resource_providers/{POOL}"
    api.done("PUT", path, {"name": "nic", "parent_provider_uuid": host.uuid})
    query = "resources=VCPU:1&resources_nic=SRIOV_NET_VF:2"
    found = api.done("GET", f"/allocation_candidates?{query}")
    [way] = found["allocation_requests"]
    assert way["mappings"] == {"": [host.uuid], "_nic": [POOL]}
    assert set(found["provider_summaries"]) == {host.uuid, POOL}
    assert found["provider_summaries"][POOL]["root_provider_uuid"] == host.uuid
    body = way | {"project_id": "p", "user_id": "u", "consumer_generation": None, "consumer_type": "JOB"}
    assert api.ask("PUT", f"/allocations/{CONSUMER}", body).status == 204
    assert api.done("GET", f"/resource_providers/{POOL}/usages")["usages"] == {"SRIOV_NET_VF": 2}
    assert api.done("GET", "/allocation_candidates?resources1=SRIOV_NET_VF:3&group_policy=none")[
        "allocation_requests"
    ] == []  # fmt: skip


#: Each with the microversion at which it makes no sense.
REFUSED = (
    ("resources1=VCPU:1", "1.24"),
    ("resources_a=VCPU:1", "1.32"),
    ("resources1=VCPU:1&resources2=VCPU:1", "1.39"),
    ("resources=VCPU:1&required1=COMPUTE_NODE", "1.35"),
    ("resources=VCPU:1&required1=COMPUTE_NODE", "1.39"),
    ("resources=VCPU:1&same_subtree=_a", "1.39"),
    ("resources=VCPU:1&same_subtree=", "1.39"),
    ("resources=VCPU:1&same_subtree=_a", "1.35"),
    ("resources=VCPU:1&in_tree=x", "1.31"),
    ("resources=VCPU:1&in_tree=" + POOL, "1.30"),
    ("resources=VCPU:1&root_required=COMPUTE_NODE", "1.34"),
    ("resources=VCPU:1&root_required=COMPUTE_NODE&root_required=COMPUTE_NODE", "1.35"),
    ("resources=VCPU:1&root_required=in:COMPUTE_NODE,HW_ARCH_X86_64", "1.39"),
    ("resources=VCPU:1&root_required=COMPUTE_NODE,!COMPUTE_NODE", "1.35"),
    ("resources=VCPU:1&required=COMPUTE_NODE,!COMPUTE_NODE", "1.22"),
    ("resources=VCPU:1&required=!COMPUTE_NODE", "1.21"),
    ("resources=VCPU:1&required=in:COMPUTE_NODE,!HW_ARCH_X86_64", "1.39"),
    ("resources=VCPU:1&required=", "1.39"),
    ("resources=VCPU:1&limit=1", "1.15"),
    ("resources=VCPU:1&limit=x", "1.16"),
    ("resources=VCPU:99999999999999999999", "1.39"),
    ("color=red", "1.39"),
    ("", "1.39"),
    ("member_of=" + AGGREGATE, "1.30"),
)


def test_a_request_for_candidates_that_makes_no_sense_is_refused(api: Api) -> None:
    for query, version in REFUSED:
        api.refused(400, "GET", f"/allocation_candidates?{query}", version=version)
