"""Which extra specs Nova knows, and what their values must look like; checked since microversion 2.86.

Source: ``nova/api/validation/extra_specs`` of Nova 34. A key that is in no rule is refused when its namespace is one of
these, and accepted otherwise: a site's own filters have their own keys. Keys without a namespace may be anything but
the two that are listed.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from nova_fast.model.errors import BadRequest
from nova_fast.model.placement_names import RESOURCE_CLASSES, TRAITS
from nova_fast.model.words import FALSE_WORDS, TRUE_WORDS

#: Says what is wrong with a value; "" = nothing.
Wrong = Callable[[str], str]

_GROUP = r"([a-zA-Z0-9_-]{1,64})?"  # resources1:…, trait_net:…
_CPUS = r"\^?\d+((-\d+)?(,\^?\d+(-\d+)?)?)*"


def _any(_value: str) -> str:
    return ""


def _truth(value: str) -> str:
    return "" if value.strip().lower() in TRUE_WORDS | FALSE_WORDS else f"'{value}' is not a valid boolean-like value"


def _number(least: int | None = None, most: int | None = None) -> Wrong:
    def wrong(value: str) -> str:
        try:
            number = int(value)
        except ValueError:
            return f"'{value}' is not a valid integer value"
        if most is not None and number > most:
            return f"'{value}' is greater than the max value of '{most}'"
        if least is not None and number < least:
            return f"'{value}' is less than the min value of '{least}'"
        return ""

    return wrong


def _one_of(*words: str) -> Wrong:
    return lambda value: "" if value in words else f"'{value}' is not one of: {', '.join(words)}"


def _like(pattern: str) -> Wrong:
    return lambda value: "" if re.fullmatch(pattern, value) else f"'{value}' is not of the format '{pattern}'"


_SOME = _number(1)
_MANY = _number(0)
_WHOLE = _number()
_CAPABILITIES = (
    "id uuid service_id host vcpus memory_mb local_gb vcpus_used memory_mb_used local_gb_used hypervisor_type "
    "hypervisor_version hypervisor_hostname free_ram_mb free_disk_gb current_workload running_vms disk_available_least "
    "host_ip mapped cpu_allocation_ratio ram_allocation_ratio disk_allocation_ratio total_usable_ram_mb "
    "total_usable_disk_gb disk_mb_used free_disk_mb vcpus_total num_instances num_io_ops failed_builds aggregates "
    "cell_uuid updated"
)
_NESTED_CAPABILITIES = (
    "cpu_info metrics stats numa_topology supported_hv_specs pci_device_pools nodename pci_stats supported_instances "
    "limits instances"
)


def _either(names: str) -> str:
    return "|".join(names.split())


#: namespace → (what may follow it, what its value must be).
_RULES: dict[str, tuple[tuple[str, Wrong], ...]] = {
    "accel": (("device_profile", _any),),
    "aggregate_instance_extra_specs": ((r".+", _any),),
    "capabilities": ((_either(_CAPABILITIES), _any), (rf"({_either(_NESTED_CAPABILITIES)})(:\w+)*", _any)),
    "hw": (
        ("boot_menu|cpu_realtime|ephemeral_encryption|hide_hypervisor_id|locked_memory|mem_encryption|pmu", _truth),
        ("vif_multiqueue_enabled|virtio_packed_ring", _truth),
        ("cpu_(max_)?(cores|sockets|threads)|numa_nodes", _SOME),
        ("cpu_dedicated_mask|cpu_realtime_mask", _like(_CPUS)),
        ("cpu_policy", _one_of("dedicated", "shared", "mixed")),
        ("cpu_thread_policy", _one_of("prefer", "isolate", "require")),
        ("emulator_threads_policy", _one_of("isolate", "share")),
        ("ephemeral_encryption_format", _one_of("plain", "luks", "luksv2")),
        ("mem_encryption_model", _one_of("amd-sev", "amd-sev-es", "amd-sev-snp", "intel-tdx")),
        ("mem_page_size", _like(r"(large|small|any|\d+([kKMGT]i?)?(b|bit|B)?)")),
        (r"numa_cpus\.\d+", _like(_CPUS)),
        (r"numa_mem\.\d+", _SOME),
        ("pci_numa_affinity_policy", _one_of("required", "preferred", "legacy", "socket")),
        ("pmem", _like("([a-zA-Z0-9_]+(,)?)+")),
        ("redirected_usb_ports", _number(0, 15)),
        ("serial_port_count", _MANY),
        ("sound_model", _one_of("sb16", "es1370", "pcspk", "ac97", "ich6", "ich9", "usb", "virtio")),
        ("tpm_model", _one_of("tpm-tis", "tpm-crb")),
        ("tpm_secret_security", _one_of("user", "host", "deployment")),
        ("tpm_version", _one_of("1.2", "2.0")),
        ("usb_model", _one_of("none", "nec-xhci", "qemu-xhci")),
        ("viommu_model", _one_of("intel", "smmuv3", "virtio", "auto")),
        ("watchdog_action", _one_of("none", "pause", "poweroff", "reset", "disabled")),
    ),
    "hw_rng": (("allowed", _truth), ("rate_bytes|rate_period", _MANY)),
    "hw_video": (("ram_max_mb", _MANY),),
    "os": (("secure_boot", _one_of("disabled", "required")),),
    "pci_passthrough": (("alias", _like(r"[^:]+:\d+(?:\s*,\s*[^:]+:\d+)*")),),
    "quota": (
        ("(cpu|memory|disk_io|vif)_(limit|shares_share)|cpu_shares|cpu_period", _MANY),
        ("(cpu|memory|disk_io|vif)_reservation|cpu_quota", _WHOLE),
        ("(cpu|memory|disk_io|vif)_shares_level", _one_of("custom", "high", "normal", "low")),
        ("disk_(read|write|total)_(bytes|iops)_sec|vif_(inbound|outbound)_(average|peak|burst)", _MANY),
    ),
    f"resources{_GROUP}": ((f"{'|'.join(RESOURCE_CLASSES)}|CUSTOM_[A-Z0-9_]+", _MANY),),
    f"trait{_GROUP}": ((f"{'|'.join(sorted(TRAITS))}|CUSTOM_[A-Z0-9_]+", _one_of("required", "forbidden")),),
    "vmware": (("hw_version|storage_policy", _any),),
}
_WITHOUT_NAMESPACE: dict[str, Wrong] = {"hide_hypervisor_id": _truth, "group_policy": _one_of("isolate", "none")}
_COMPILED = tuple(
    (re.compile(namespace), tuple((re.compile(names), wrong) for names, wrong in rules))
    for namespace, rules in _RULES.items()
)


def check_known(key: str, value: str) -> None:
    """Raise BadRequest for a value that a known extra spec may not have, or an unknown one of a known namespace."""
    namespace, colon, name = key.partition(":")
    if not colon:
        _check(key, _WITHOUT_NAMESPACE.get(key, _any)(value))
        return
    rules = next((rules for pattern, rules in _COMPILED if pattern.fullmatch(namespace)), None)
    if rules is None:
        return
    for names, wrong in rules:
        if names.fullmatch(name):
            _check(key, wrong(value))
            return
    _check(key, f"extra spec '{key}' does not appear to be a valid extra spec")


def _check(key: str, wrong: str) -> None:
    if wrong:
        raise BadRequest(f"Validation failed; {wrong}.", field=f"extra_specs.{key}")
