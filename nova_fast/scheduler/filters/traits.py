"""The traits a request requires and forbids: named outright, or because of a feature that it asks for.

Outright: ``trait:X=required|forbidden`` of the flavor (also of a numbered group, ``trait1:X``) and
``trait:X=required`` of the image. A feature asks by an extra spec or an image property; the flavor's word wins, as far
as the API lets both through (``nova.scheduler.utils.ResourceRequest``, ``nova.scheduler.request_filter``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from nova_fast.config import SchedulerConfig
from nova_fast.model.tasks import PlacementRequest
from nova_fast.model.words import is_true
from nova_fast.scheduler.image_properties import image_properties

_TRAIT = re.compile(r"trait[a-zA-Z0-9_-]{0,64}:(.*)")
_HYPERTHREADING = "HW_CPU_HYPERTHREADING"

# What image_metadata_prefilter requires for a property: prefix of the trait, the value is the rest.
_PREFIXES = {
    "hw_cdrom_bus": "COMPUTE_STORAGE_BUS",
    "hw_disk_bus": "COMPUTE_STORAGE_BUS",
    "hw_video_model": "COMPUTE_GRAPHICS_MODEL",
    "hw_vif_model": "COMPUTE_NET_VIF_MODEL",
    "hw_architecture": "HW_ARCH",
    "hw_emulation_architecture": "COMPUTE_ARCH",
    "hw_viommu_model": "COMPUTE_VIOMMU",
}
_ADDRESS_SPACES = {"passthrough": "COMPUTE_ADDRESS_SPACE_PASSTHROUGH", "emulate": "COMPUTE_ADDRESS_SPACE_EMULATED"}
_ENCRYPTION_MODELS = {
    "amd-sev": "HW_CPU_X86_AMD_SEV",
    "amd-sev-es": "HW_CPU_X86_AMD_SEV_ES",
    "amd-sev-snp": "HW_CPU_X86_AMD_SEV_SNP",
    "intel-tdx": "HW_CPU_X86_INTEL_TDX",
}


def required_traits(request: PlacementRequest, options: SchedulerConfig) -> frozenset[str]:
    """Traits that a host must have."""
    if not request.extra_specs and not request.image_properties:
        return frozenset()
    found = set(_named(request.extra_specs, "required"))
    properties = image_properties(request)
    traits = properties.get("traits_required", [])
    assert isinstance(traits, list)
    found.update(map(str, traits))
    found.update(_of_features(request))
    if options.image_metadata_prefilter:
        for name, prefix in _PREFIXES.items():
            if name in properties:
                found.add(f"{prefix}_{str(properties[name]).replace('-', '_').upper()}")
    return frozenset(found)


def forbidden_traits(request: PlacementRequest) -> frozenset[str]:
    """Traits that a host must not have."""
    found = set(_named(request.extra_specs, "forbidden"))
    if _feature(request, "cpu_thread_policy") == "isolate":
        found.add(_HYPERTHREADING)
    return frozenset(found)


def _named(extra_specs: dict[str, str], word: str) -> Iterator[str]:
    for key, value in extra_specs.items():
        match = _TRAIT.fullmatch(key)
        if match is not None and value == word:
            yield match[1]


def _of_features(request: PlacementRequest) -> Iterator[str]:
    if _feature(request, "secure_boot", "os") == "required":
        yield "COMPUTE_SECURITY_UEFI_SECURE_BOOT"
    if _feature(request, "cpu_thread_policy") == "require":
        yield _HYPERTHREADING
    if _feature(request, "pci_numa_affinity_policy") == "socket":
        yield "COMPUTE_SOCKET_PCI_NUMA_AFFINITY"
    if _feature(request, "sound_model") == "virtio":
        yield "COMPUTE_SOUND_MODEL_VIRTIO"
    if _is_on(request, "virtio_packed_ring"):
        yield "COMPUTE_NET_VIRTIO_PACKED"
    if request.extra_specs.get("accel:device_profile"):
        yield "COMPUTE_ACCELERATORS"
    address_space = _ADDRESS_SPACES.get(_feature(request, "maxphysaddr_mode"))
    if address_space:
        yield address_space
    properties = image_properties(request)
    if properties.get("hw_firmware_stateless") and properties.get("hw_firmware_type") == "uefi":
        yield "COMPUTE_SECURITY_STATELESS_FIRMWARE"
    yield from _of_encryption(request)


def _of_encryption(request: PlacementRequest) -> Iterator[str]:
    if _is_on(request, "mem_encryption"):
        yield _ENCRYPTION_MODELS.get(_feature(request, "mem_encryption_model"), _ENCRYPTION_MODELS["amd-sev"])
    if _is_on(request, "ephemeral_encryption"):
        yield "COMPUTE_EPHEMERAL_ENCRYPTION"
        disk_format = _feature(request, "ephemeral_encryption_format")
        if disk_format:
            yield f"COMPUTE_EPHEMERAL_ENCRYPTION_{disk_format.upper()}"
    version = _feature(request, "tpm_version")
    if version:
        yield "COMPUTE_SECURITY_TPM_CRB" if _feature(request, "tpm_model") == "tpm-crb" else "COMPUTE_SECURITY_TPM_TIS"
        yield "COMPUTE_SECURITY_TPM_2_0" if version == "2.0" else "COMPUTE_SECURITY_TPM_1_2"
        security = request.extra_specs.get("hw:tpm_secret_security") or "user"
        yield f"COMPUTE_SECURITY_TPM_SECRET_SECURITY_{security.upper()}"


def _feature(request: PlacementRequest, name: str, scope: str = "hw") -> str:
    """What the flavor says of a feature, else the image; "" = nothing."""
    return request.extra_specs.get(f"{scope}:{name}") or request.image_properties.get(f"{scope}_{name}", "")


def _is_on(request: PlacementRequest, name: str) -> bool:
    return is_true(_feature(request, name))
