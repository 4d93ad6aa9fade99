"""PCI devices by alias."""

from __future__ import annotations

from typing import Any

import pytest

from nova_fast.model.errors import BadRequest
from nova_fast.model.topology import NumaCell, PciPool
from nova_fast.scheduler.topology.devices import have_devices, read_aliases, wanted_devices
from tests.unit.scheduler.filters.asking import request

ALIASES = read_aliases(
    (
        '{"name": "gpu", "vendor_id": "10DE", "product_id": "1db4", "device_type": "type-PCI"}',
        '{"name": "gpu", "vendor_id": "10de", "product_id": "20b0", "resource_class": "CUSTOM_GPU"}',
        '{"name": "card", "vendor_id": "8086", "device_type": "type-PF", "numa_policy": "required"}',
        '{"name": "any8086", "vendor_id": "8086"}',
        '{"name": "mobile", "vendor_id": "8086", "live_migratable": "yes"}',
    )
)
CELLS = [NumaCell(number=0, socket=0), NumaCell(number=1, socket=0), NumaCell(number=2, socket=1)]


def pool(count: int, product: str = "1db4", vendor: str = "10de", **changes: Any) -> PciPool:
    return PciPool(vendor_id=vendor, product_id=product, count=count, **({"device_type": "type-PCI"} | changes))


def have(pools: list[PciPool], asked: str, chosen: tuple[int, ...] = (), policy: str = "") -> bool:
    specs = {"pci_passthrough:alias": asked} | ({"hw:pci_numa_affinity_policy": policy} if policy else {})
    return have_devices(pools, wanted_devices(request(extra_specs=specs), ALIASES), CELLS, chosen)


@pytest.mark.parametrize(
    ("pools", "asked", "fit"),
    [
        ([], "gpu:1", False),
        ([pool(2)], "gpu:2", True),
        ([pool(2)], "gpu:3", False),
        ([pool(1), pool(1, "20b0")], "gpu:2", True),  # either of the alias's entries
        ([pool(1, device_type="type-VF")], "gpu:1", False),
        ([pool(2)], "gpu:1,gpu:1", True),
        ([pool(2)], "gpu:1, gpu:2", False),  # a device is given once
        ([pool(1, "1", "8086", device_type="type-PF")], "any8086:1", False),  # a whole card only for who says so
        ([pool(1, "154D", "8086", device_type="type-PF")], "card:1", True),
        ([pool(1, "1", "8086", device_type="vdpa")], "any8086:1", False),
        ([pool(1, "1", "8086", tags={"remote_managed": "True"})], "any8086:1", False),
        ([pool(1, "1", "8086", tags={"live_migratable": "true"})], "mobile:1", True),
        ([pool(1, "1", "8086", tags={"live_migratable": "false"})], "mobile:1", False),
        ([pool(1, "1", "8086")], "mobile:1", False),
    ],
)
def test_pools_have_what_is_asked(pools: list[PciPool], asked: str, fit: bool) -> None:
    assert have(pools, asked) is fit


@pytest.mark.parametrize(
    ("node", "required", "socket", "legacy", "preferred"),
    [(0, True, True, True, True), (1, False, True, False, True), (2, False, False, False, True),
     (None, False, False, True, True)],
)  # fmt: skip
def test_a_policy_says_how_near(node: int | None, required: bool, socket: bool, legacy: bool, preferred: bool) -> None:
    pools = [pool(1, numa_node=node)]
    found = [have(pools, "gpu:1", (0,), policy) for policy in ("required", "socket", "legacy", "preferred")]
    assert found == [required, socket, legacy, preferred]
    assert have(pools, "gpu:1", (0,)) is legacy, "which is what an alias means that says nothing"
    assert have(pools, "gpu:1", (), "required"), "a guest without cells is near everything"


def test_devices_that_are_said_less_of_are_taken_first() -> None:
    """Taking the tagged one for the first request would leave the second without."""
    pools = [pool(1, "1", "8086", tags={"live_migratable": "true"}), pool(1, "1", "8086")]
    assert have(pools, "any8086:1,mobile:1")


@pytest.mark.parametrize("text", ["gpu", "gpu:", "gpu:many", "none:1", "gpu:1,"])
def test_what_is_no_alias_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="alias"):
        have([], text)


@pytest.mark.parametrize(
    "texts", [("{",), ("{}",), ("[]",), ('{"name": "a"}', '{"name": "a", "numa_policy": "socket"}')]
)
def test_aliases_that_cannot_be_read_are_refused(texts: tuple[str, ...]) -> None:
    with pytest.raises(BadRequest) as refused:
        read_aliases(texts)
    assert refused.value.field == "scheduler.pci_alias"
