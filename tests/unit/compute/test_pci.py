"""PCI devices are read from sysfs and told as the option names them: a tree of files stands for the kernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nova_fast.compute.drivers.pci import read_devices, told_pools
from nova_fast.model.errors import BadRequest
from nova_fast.model.topology import PciPool

CARD, FIRST, SECOND, GPU, BRIDGE = (
    "0000:81:00.0", "0000:81:10.0", "0000:81:10.1", "0000:02:00.0", "000a:00:1f.3",
)  # fmt: skip


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """A network card with two virtual functions, a processor for graphics, a bridge, and one that is just going."""

    def device(address: str, vendor: str, product: str, node: int, **files: str) -> Path:
        folder = tmp_path / address
        folder.mkdir()
        for name, text in {"vendor": vendor, "device": product, "numa_node": str(node), **files}.items():
            (folder / name).write_text(text + "\n")
        return folder

    card = device(CARD, "0x8086", "0x1572", 1, sriov_totalvfs="64")
    (card / "net" / "ens1").mkdir(parents=True)
    for address in (FIRST, SECOND):
        (device(address, "0x8086", "0x154c", 1) / "physfn").symlink_to(f"../{CARD}")
    device(GPU, "0x10de", "0x1DB4", 0, sriov_totalvfs="0")
    device(BRIDGE, "0x8086", "0x0001", -1)
    (tmp_path / "0000:00:00.0").mkdir()
    return tmp_path


def pools(folder: Path, *specs: dict[str, Any]) -> dict[tuple[str, ...], PciPool]:
    told = told_pools(read_devices(folder), tuple(json.dumps(spec) for spec in specs))
    return {pool.addresses: pool for pool in told}


def test_devices_are_what_the_kernel_says(sysfs: Path) -> None:
    found = {device.address: device for device in read_devices(sysfs)}
    assert sorted(found) == sorted((CARD, FIRST, SECOND, GPU, BRIDGE))
    assert [found[one].device_type for one in (CARD, FIRST, GPU)] == ["type-PF", "type-VF", "type-PCI"]
    assert (found[GPU].vendor_id, found[GPU].product_id, found[GPU].numa_node) == ("10de", "1db4", 0)
    assert (found[FIRST].parent, found[CARD].names, found[BRIDGE].numa_node) == (CARD, ("ens1",), None)
    (sysfs / SECOND / "vdpa0").mkdir()
    assert {one.address: one.device_type for one in read_devices(sysfs)}[SECOND] == "vdpa"
    assert read_devices(sysfs / "none") == []


@pytest.mark.parametrize(
    ("spec", "addresses"),
    [
        ({}, {CARD, FIRST, SECOND, GPU, BRIDGE}),
        ({"vendor_id": "10de"}, {GPU}),
        ({"vendor_id": "8086", "product_id": "154C"}, {FIRST, SECOND}),
        ({"address": "0000:81:10.*"}, {FIRST, SECOND}),
        ({"address": "81:"}, {CARD, FIRST, SECOND}),
        ({"address": "81:*"}, {CARD, FIRST, SECOND}),
        ({"address": "*:*:10.1"}, {SECOND}),
        ({"address": ".3"}, {BRIDGE}),
        ({"address": CARD}, {CARD, FIRST, SECOND}),  # a card stands for its functions
        ({"address": CARD, "product_id": "154c"}, {FIRST, SECOND}),
        ({"address": FIRST}, {FIRST}),
        ({"address": {"domain": ".*", "bus": "81", "slot": "10", "function": "[01]"}}, {FIRST, SECOND}),
        ({"devname": "ens1", "product_id": "154c"}, {FIRST, SECOND}),
        ({"devname": "ens9"}, set()),
    ],
)
def test_an_entry_names_devices(sysfs: Path, spec: dict[str, Any], addresses: set[str]) -> None:
    assert {one for group in pools(sysfs, spec) for one in group} == addresses


def test_devices_alike_are_one_pool_with_what_is_said_of_them(sysfs: Path) -> None:
    named = {"address": "0000:81:10.1", "physical_network": "net1", "live_migratable": "Yes"}
    found = pools(sysfs, named, {"vendor_id": "8086"})
    assert found[SECOND,].tags == {"physical_network": "net1", "live_migratable": "true"}
    assert found[FIRST,] == PciPool("8086", "154c", 1, "type-VF", 1, {}, (FIRST,), (CARD,))
    both = pools(sysfs, {"product_id": "154c"})
    assert both[FIRST, SECOND].parents == (CARD, CARD)
    assert both[FIRST, SECOND].count == 2


@pytest.mark.parametrize(
    "spec",
    ["{", "[]", '{"vendor_id": "xyz"}', '{"vendor_id": "12345"}', '{"address": "0:0:0:0.0"}', '{"address": "*:20.*"}',
     '{"address": {"bus": "("}}', '{"address": "81:00.0", "devname": "ens1"}', '{"managed": "no"}'],
)  # fmt: skip
def test_an_entry_that_makes_no_sense_is_refused(sysfs: Path, spec: str) -> None:
    with pytest.raises(BadRequest) as refused:
        told_pools(read_devices(sysfs), (spec,))
    assert refused.value.field == "compute.pci_device_spec"
