"""Extra specs of flavors. Since microversion 2.86 keys of the namespaces Nova knows must be ones it knows.

Source: Compute API v2.1, "Flavors extra-specs"; the namespaces and keys of ``nova/api/validation/extra_specs``.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from nova_fast.api.compute.face import face
from nova_fast.api.framework.request import Request
from nova_fast.model.commands.flavors import DeleteExtraSpec, FlavorResult, SetExtraSpecs
from nova_fast.model.errors import BadRequest, NotFound
from nova_fast.queries import flavors

TEXT_MAX = 255
_KEY = re.compile(r"[a-zA-Z0-9\-_:. ]{1,255}")
_NUMBER = r"[0-9]+"
_TRUTH = r"(?i:1|t|true|on|y|yes|0|f|false|off|n|no)"
_ANY = r".*"
#: namespace → (what may follow it, what its value must look like), tried in order.
_NAMESPACES: dict[str, tuple[tuple[str, str], ...]] = {
    "hw": (
        (r"boot_menu|emulator_threads_policy_strict|hide_hypervisor_id|locked_memory|virtio_packed_ring", _TRUTH),
        (r"cpu_cores|cpu_max_cores|cpu_max_sockets|cpu_max_threads|cpu_sockets|cpu_threads|numa_nodes", _NUMBER),
        (r"serial_port_count|vif_multiqueue_queues|maxphysaddr_bits|viommu_bits", _NUMBER),
        (r"vif_multiqueue_enabled|mem_encryption|pmu|tpm_required", _TRUTH),
        (r"cpu_policy", r"dedicated|shared|mixed"),
        (r"cpu_thread_policy", r"prefer|isolate|require"),
        (r"emulator_threads_policy", r"isolate|share"),
        (r"pci_numa_affinity_policy", r"required|preferred|legacy|socket"),
        (r"mem_page_size", r"small|large|any|[0-9]+([kKmMgG][iI]?[bB]?)?"),
        (r"watchdog_action", r"none|pause|poweroff|reset|disabled"),
        (r"tpm_version", r"1\.2|2\.0"),
        (r"tpm_model", r"tpm-tis|tpm-crb"),
        (r"numa_(cpus|mem)\.[0-9]+|cpu_dedicated_mask|cpu_realtime_mask", _ANY),
        (r"maxphysaddr_mode|pmem|ephemeral_encryption.*", _ANY),
        (r"cpu_realtime", _TRUTH),
        (r"mem_encryption_model|tpm_secret_security|viommu_model|sound_model|usb_model|redirected_usb_ports", _ANY),
    ),
    "hw_rng": ((r"allowed", _TRUTH), (r"rate_bytes|rate_period", _NUMBER)),
    "hw_video": ((r"ram_max_mb", _NUMBER),),
    "os": ((r"secure_boot", r"required|optional|disabled"), (r"vif_mac|emulate_tpm", _ANY)),
    "quota": (
        (r"(cpu|memory|disk|disk_io|vif)_(shares|limit|reservation|period|quota)", r"-?[0-9]+"),
        (r"(cpu|memory|disk_io|vif)_shares_(level|share)", _ANY),
        (r"disk_(read|write|total)_(bytes|iops)_sec(_max|_max_length)?", _NUMBER),
        (r"vif_(inbound|outbound)_(average|burst|peak)", _NUMBER),
    ),
    "resources": ((r"[A-Z0-9_]+", _NUMBER),),
    "trait": ((r"[A-Z0-9_]+", r"required|forbidden"),),
    "pci_passthrough": ((r"alias", _ANY),),
    "accel": ((r"device_profile", _ANY),),
}  # fmt: skip


class SpecsBody(msgspec.Struct, forbid_unknown_fields=True):
    extra_specs: dict[str, str]


def check_spec(key: str, value: str, *, known_only: bool) -> None:
    """Raise BadRequest for a key or value no flavor may have; ``known_only`` since microversion 2.86."""
    if not _KEY.fullmatch(key):
        raise BadRequest(
            "Key Names can only contain alphanumeric characters, periods, dashes, underscores, colons and spaces.",
            field=f"extra_specs.{key[:80]}",
        )
    if len(value) > TEXT_MAX:
        raise BadRequest(f"The value of {key} has more than {TEXT_MAX} characters.", field=f"extra_specs.{key}")
    namespace, colon, name = key.partition(":")
    if not known_only or not colon or namespace not in _NAMESPACES:
        return
    for names, values in _NAMESPACES[namespace]:
        if re.fullmatch(names, name):
            if not re.fullmatch(values, value):
                raise BadRequest(
                    f"Validation failed; '{value}' is not a valid value of extra spec '{key}'.",
                    field=f"extra_specs.{key}",
                )
            return
    raise BadRequest(
        f"Validation failed; extra spec '{key}' does not appear to be a valid extra spec.", field=f"extra_specs.{key}"
    )


@face.route("GET", "/flavors/{flavor_id}/os-extra_specs", errors=(404,), policy="reader")
async def list_specs(request: Request, flavor_id: str) -> dict[str, Any]:
    """All extra specs of a flavor."""
    with request.snapshot() as snapshot:
        return {"extra_specs": flavors.get(snapshot, flavor_id, request.caller).extra_specs}


@face.route("POST", "/flavors/{flavor_id}/os-extra_specs", errors=(400, 404, 409), policy="admin", body=SpecsBody)
async def set_specs(request: Request, flavor_id: str) -> dict[str, Any]:
    """Merge some in."""
    specs: dict[str, str] = request.body.extra_specs
    await _set(request, flavor_id, specs)
    return {"extra_specs": specs}


@face.route("GET", "/flavors/{flavor_id}/os-extra_specs/{key}", errors=(404,), policy="reader")
async def show_spec(request: Request, flavor_id: str, key: str) -> dict[str, str]:
    """One of them."""
    with request.snapshot() as snapshot:
        flavor = flavors.get(snapshot, flavor_id, request.caller)
    if key not in flavor.extra_specs:
        raise NotFound(f"Flavor {flavor_id} has no extra specs with key {key}.")
    return {key: flavor.extra_specs[key]}


@face.route(
    "PUT", "/flavors/{flavor_id}/os-extra_specs/{key}", errors=(400, 404, 409), policy="admin", body=dict[str, str]
)
async def put_spec(request: Request, flavor_id: str, key: str) -> dict[str, str]:
    """Set one; the body names it again."""
    if list(request.body) != [key]:
        raise BadRequest("Invalid request body: it must have exactly the key that the URL names.")
    await _set(request, flavor_id, request.body)
    return {key: request.body[key]}


@face.route("DELETE", "/flavors/{flavor_id}/os-extra_specs/{key}", errors=(404,), policy="admin")
async def delete_spec(request: Request, flavor_id: str, key: str) -> None:
    """Remove one."""
    await request.command(DeleteExtraSpec(caller=request.caller, flavor_id=flavor_id, key=key))


async def _set(request: Request, flavor_id: str, specs: dict[str, str]) -> None:
    for key, value in specs.items():
        check_spec(key, value, known_only=request.at_least("2.86"))
    result = await request.command(SetExtraSpecs(caller=request.caller, flavor_id=flavor_id, extra_specs=specs))
    assert isinstance(result, FlavorResult)
