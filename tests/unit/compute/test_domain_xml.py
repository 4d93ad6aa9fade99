"""The domain XML of a guest says what it must, and no name becomes markup."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_fast.compute.drivers.libvirt.domain_xml import (
    METADATA_NAMESPACE,
    Backing,
    Disk,
    DomainSettings,
    domain_xml,
)
from nova_fast.model.errors import BadRequest, NotImplementedHere

from .builders import SERVER_ID, a_guest, a_nic

TCG = DomainSettings(virt_type="qemu", architecture="x86_64", instances_dir="/srv/instances")
KVM = msgspec.structs.replace(TCG, virt_type="kvm")
ROOT = Disk(path="/i/disk", format="qcow2", boot_order=1, backing=Backing(path="/i/_base/x", format="raw"))
LOG = "/i/console.log"


def tree(**fields: object) -> ET.Element:
    return ET.fromstring(domain_xml(a_guest(**fields), (ROOT,), LOG, TCG))


def test_names_sizes_and_ownership_are_the_guests() -> None:
    root = tree()
    assert root.get("type") == "qemu"
    assert root.findtext("name") == "instance-00000001"
    assert root.findtext("uuid") == SERVER_ID
    assert root.findtext("vcpu") == "2"
    memory = root.find("memory")
    assert memory is not None
    assert (memory.text, memory.get("unit")) == ("512", "MiB")
    owner = root.find(f"metadata/{{{METADATA_NAMESPACE}}}guest")
    assert owner is not None
    assert (owner.get("server"), owner.get("instances")) == (SERVER_ID, "/srv/instances")


def test_going_down_ends_the_guest_and_a_reboot_inside_does_not() -> None:
    root = tree()
    assert (root.findtext("on_poweroff"), root.findtext("on_reboot"), root.findtext("on_crash")) == (
        "destroy",
        "restart",
        "destroy",
    )


def test_consoles_stay_on_this_machine_and_are_logged() -> None:
    root = tree()
    graphics = root.find("devices/graphics")
    assert graphics is not None
    assert (graphics.get("type"), graphics.get("listen")) == ("vnc", "127.0.0.1")
    log = root.find("devices/serial/log")
    assert log is not None
    assert (log.get("file"), log.get("append")) == (LOG, "on")


def test_emulation_uses_pc_without_a_processor_model_and_bounds_the_translation_cache() -> None:
    root = tree()
    machine = root.find("os/type")
    assert machine is not None
    assert machine.get("machine") == "pc"
    assert root.find("cpu") is None
    assert root.findtext("features/tcg/tb-cache") == "64"
    assert root.find("devices/controller[@model='pcie-root-port']") is None


def test_kvm_uses_q35_the_hosts_processor_and_spare_ports() -> None:
    root = ET.fromstring(domain_xml(a_guest(), (ROOT,), LOG, KVM))
    machine, processor = root.find("os/type"), root.find("cpu")
    assert machine is not None
    assert processor is not None
    assert (root.get("type"), machine.get("machine"), processor.get("mode")) == ("kvm", "q35", "host-model")
    assert len(root.findall("devices/controller[@model='pcie-root-port']")) == 16
    assert root.find("features/tcg") is None


def test_cloud_init_recognises_an_openstack_guest() -> None:
    root = tree()
    assert root.findtext("sysinfo/system/entry[@name='product']") == "OpenStack Nova"
    assert root.findtext("sysinfo/system/entry[@name='uuid']") == SERVER_ID
    smbios = root.find("os/smbios")
    assert smbios is not None
    assert smbios.get("mode") == "sysinfo"


def test_disks_are_virtio_in_order_and_the_backing_chain_is_said_in_full() -> None:
    disks = (ROOT, Disk(path="/i/swap", format="raw"), Disk(path="/i/config", format="raw", read_only=True))
    root = ET.fromstring(domain_xml(a_guest(), disks, LOG, TCG))
    targets = [(element.get("dev"), element.get("bus")) for element in root.iterfind("devices/disk/target")]
    assert targets == [("vda", "virtio"), ("vdb", "virtio"), ("vdc", "virtio")]
    first, _, last = root.findall("devices/disk")
    assert first.find("readonly") is None
    assert last.find("readonly") is not None
    source, chain_end = first.find("backingStore/source"), first.find("backingStore/backingStore")
    assert source is not None
    assert chain_end is not None
    assert source.get("file") == "/i/_base/x"
    relabel = source.find("seclabel")
    assert relabel is not None
    assert relabel.get("relabel") == "no"
    assert first.find("source/seclabel") is None


@pytest.mark.parametrize(("settings", "target"), [(TCG, ("hda", "ide")), (KVM, ("sda", "sata"))])
def test_an_iso_is_a_cdrom_on_the_bus_the_machine_has(settings: DomainSettings, target: tuple[str, str]) -> None:
    disks = (ROOT, Disk(path="/i/_base/iso", format="raw", device="cdrom", read_only=True, shared=True, boot_order=2))
    root = ET.fromstring(domain_xml(a_guest(), disks, LOG, settings))
    cdrom = root.find("devices/disk[@device='cdrom']")
    assert cdrom is not None
    found, boot = cdrom.find("target"), cdrom.find("boot")
    assert found is not None
    assert boot is not None
    assert (found.get("dev"), found.get("bus")) == target
    assert boot.get("order") == "2"


def test_a_network_card_names_bridge_tap_mac_and_mtu_and_loads_no_rom() -> None:
    interface = tree(nics=(a_nic(),)).find("devices/interface")
    assert interface is not None
    assert interface.get("type") == "bridge"
    found = {child.tag: child.attrib for child in interface}
    assert found == {
        "source": {"bridge": "nfbr1"},
        "mac": {"address": "fa:16:3e:00:00:01"},
        "target": {"dev": "tap01234567-89"},
        "model": {"type": "virtio"},
        "mtu": {"size": "1450"},
        "rom": {"enabled": "no"},
    }


@given(st.text(max_size=100))
def test_any_display_name_stays_text(name: str) -> None:
    root = tree(name=name)
    assert len(root.findall("devices")) == 1
    assert "\n" not in root.findtext("title", "")


@given(st.text(alphabet="<>&'\"/ab]\x00\n", max_size=40))
def test_a_hostile_project_id_stays_an_attribute(project_id: str) -> None:
    root = tree(project_id=project_id)
    assert [child.tag for child in root].count("devices") == 1
    assert len(root.findall("metadata/*")) == 1


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", "<x/>", "a\nb", ".hidden", "x" * 65])
def test_names_that_libvirt_or_a_path_could_misread_are_refused(name: str) -> None:
    for field in ("domain_name", "server_id"):
        with pytest.raises(BadRequest):
            tree(**{field: name})


@pytest.mark.parametrize(
    "fields",
    [
        {"tap": "a-name-of-16-chr"},
        {"tap": "tap/x"},
        {"bridge": "br'><x"},
        {"bridge": ""},
        {"mac_address": "fa:16:3e:00:00"},
        {"mac_address": "fa:16:3e:00:00:01\n"},
    ],
)
def test_a_network_card_with_an_impossible_name_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        tree(nics=(a_nic(**fields),))


def test_an_architecture_we_do_not_know_is_refused() -> None:
    with pytest.raises(NotImplementedHere):
        domain_xml(a_guest(), (ROOT,), LOG, msgspec.structs.replace(TCG, architecture="aarch64"))
