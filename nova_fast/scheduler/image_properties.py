"""Image properties as Nova reads them: only the names it knows, each by its type, older names under their new ones.

An image may have any properties, but Nova takes over only the fields of its ImageMetaProps, as booleans, whole numbers
and texts; an aggregate's metadata is compared with ``str`` of that ("True", not "yes"). So does everything here.
"""

from __future__ import annotations

from nova_fast.model.tasks import PlacementRequest
from nova_fast.model.words import is_true

ImageValue = bool | int | str | list[int] | list[str]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Older names (nova.objects.image_meta).
_OLDER = {
    "architecture": "hw_architecture",
    "owner_id": "img_owner_id",
    "vmware_disktype": "hw_disk_type",
    "vmware_image_version": "img_version",
    "vmware_ostype": "os_distro",
    "auto_disk_config": "hw_auto_disk_config",
    "ipxe_boot": "hw_ipxe_boot",
    "xenapi_device_id": "hw_device_id",
    "xenapi_image_compression_level": "img_compression_level",
    "vmware_linked_clone": "img_linked_clone",
    "xenapi_use_agent": "img_use_agent",
    "xenapi_skip_agent_inject_ssh": "os_skip_agent_inject_ssh",
    "xenapi_skip_agent_inject_files_at_boot": "os_skip_agent_inject_files_at_boot",
    "cache_in_nova": "img_cache_in_nova",
    "vm_mode": "hw_vm_mode",
    "bittorrent": "img_bittorrent",
    "bdm_v2": "img_bdm_v2",
    "root_device_name": "img_root_device_name",
    "hypervisor_version_requires": "img_hv_requested_version",
    "hypervisor_type": "img_hv_type",
}
_BOOLEANS = _words(
    """
    hw_boot_menu hw_firmware_stateless hw_ipxe_boot hw_locked_memory hw_mem_encryption hw_pmu hw_qemu_guest_agent
    hw_time_hpet hw_vif_multiqueue_enabled hw_ephemeral_encryption hw_virtio_packed_ring img_bittorrent img_bdm_v2
    img_cache_in_nova img_linked_clone img_use_agent img_hide_hypervisor_id os_require_quiesce
    os_skip_agent_inject_files_at_boot os_skip_agent_inject_ssh
    """
)
_INTEGERS = _words(
    """
    hw_cpu_cores hw_cpu_sockets hw_cpu_max_cores hw_cpu_max_sockets hw_cpu_max_threads hw_cpu_threads hw_device_id
    hw_numa_nodes hw_serial_port_count hw_video_ram hw_maxphysaddr_bits hw_redirected_usb_ports img_compression_level
    img_version
    """
)
_TEXTS = _words(
    """
    hw_architecture hw_emulation_architecture hw_auto_disk_config hw_cdrom_bus hw_cpu_policy hw_cpu_thread_policy
    hw_cpu_realtime_mask hw_disk_bus hw_disk_type hw_floppy_bus hw_firmware_type hw_input_bus hw_machine_type
    hw_mem_encryption_model hw_mem_page_size hw_pci_numa_affinity_policy hw_pointer_model hw_rescue_bus hw_rescue_device
    hw_rng_model hw_scsi_model hw_video_model hw_vif_model hw_viommu_model hw_vm_mode hw_watchdog_action hw_tpm_model
    hw_tpm_version hw_ephemeral_encryption_format hw_ephemeral_encryption_secret_uuid hw_maxphysaddr_mode hw_sound_model
    hw_usb_model img_hv_requested_version img_hv_type img_config_drive img_owner_id img_root_device_name img_signature
    img_signature_hash_method img_signature_certificate_uuid img_signature_key_type os_admin_user os_command_line
    os_distro os_secure_boot os_type
    """
)
_TRAIT = "trait:"

_ARCHITECTURES = {
    "amd64": "x86_64",
    "i386": "i686",
    "i486": "i686",
    "i586": "i686",
    "x86_32": "i686",
    "x86_32p": "i686",
}
_MODES = {"pv": "xen", "hv": "hvm", "baremetal": "hvm"}


def canonical_architecture(name: str) -> str:
    """The one name of an instruction set."""
    lower = name.lower()
    return _ARCHITECTURES.get(lower, lower)


def canonical_hypervisor(name: str) -> str:
    """The one name of a kind of hypervisor."""
    lower = name.lower()
    return "xen" if lower == "xapi" else lower


def canonical_mode(name: str) -> str:
    """The one name of a vm mode."""
    lower = name.lower()
    return _MODES.get(lower, lower)


def image_properties(request: PlacementRequest) -> dict[str, ImageValue]:
    """The properties of a request's image that Nova knows."""
    return known_properties(request.image_properties)


def known_properties(properties: dict[str, str]) -> dict[str, ImageValue]:
    """The properties that Nova knows, by their present names and as their types; a newer name wins over an older."""
    renamed = {_OLDER[name]: text for name, text in properties.items() if name in _OLDER}
    texts = renamed | properties
    adapter = properties.get("vmware_adaptertype", "")
    if adapter:
        texts.setdefault("hw_disk_bus", "ide" if adapter == "ide" else "scsi")
        if adapter != "ide":
            texts.setdefault("hw_scsi_model", adapter)
    known: dict[str, ImageValue] = {}
    for name, text in texts.items():
        if name in _BOOLEANS:
            known[name] = is_true(text)
        elif name in _INTEGERS:
            known[name] = int(text) if text.strip().isdecimal() else text
        elif name in _TEXTS:
            known[name] = _canonical(name, text)
    traits = [name.removeprefix(_TRAIT) for name, text in properties.items() if _requires(name, text)]
    return known | {"traits_required": traits} if traits else known


def property_texts(properties: dict[str, str]) -> frozenset[tuple[str, str]]:
    """What ImagePropertiesWeigher counts of an image: (name, text of the value) of each property that Nova knows."""
    return frozenset((name, str(value)) for name, value in known_properties(properties).items())


def _canonical(name: str, text: str) -> str:
    if name in ("hw_architecture", "hw_emulation_architecture"):
        return canonical_architecture(text)
    if name == "img_hv_type":
        return canonical_hypervisor(text)
    return canonical_mode(text) if name == "hw_vm_mode" else text


def _requires(name: str, text: str) -> bool:
    return name.startswith(_TRAIT) and text == "required"
