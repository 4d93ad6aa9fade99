"""A host's attributes by the names that Nova's HostState gives them, for what an operator or user may ask by name.

``capabilities:free_ram_mb`` of a flavor and ``$free_ram_mb`` of a JSON query mean these. Some are the same for all
hosts of a profile; of some that Nova has a scheduler here knows nothing, so that what asks for them fits no host.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

from nova_fast.scheduler.facts import HostFacts, HostState

_MIB_PER_GIB = 1024

STATIC: dict[str, Callable[[HostFacts], Any]] = {
    "hypervisor_type": lambda facts: facts.hypervisor_type,
    "hypervisor_version": lambda facts: facts.hypervisor_version,
    "cpu_info": lambda facts: facts.cpu_info,
    "supported_instances": lambda facts: [list(supported) for supported in facts.supported_instances],
    "cpu_allocation_ratio": lambda facts: facts.cpu_ratio,
    "ram_allocation_ratio": lambda facts: facts.ram_ratio,
    "disk_allocation_ratio": lambda facts: facts.disk_ratio,
}
#: Texts, as Nova keeps them: what compares them with a number finds no equal.
STATISTICS: dict[str, Callable[[HostState], Any]] = {
    "num_instances": lambda state: str(state.servers),
    "io_workload": lambda state: str(state.io_ops),
    "failed_builds": lambda state: str(state.failed_builds),
}
CHANGING: dict[str, Callable[[HostState], Any]] = {
    "host": lambda state: state.name,
    "nodename": lambda state: state.name,
    "hypervisor_hostname": lambda state: state.name,
    "uuid": lambda state: state.uuid,
    "host_ip": lambda state: ip_address(state.host_ip) if state.host_ip else None,
    "total_usable_ram_mb": lambda state: state.ram_total_mib,
    "total_usable_disk_gb": lambda state: state.disk_total_gib,
    "disk_mb_used": lambda state: (state.disk_total_gib - state.disk_free_gib) * _MIB_PER_GIB,
    "free_ram_mb": lambda state: state.ram_free_mib,
    "free_disk_mb": lambda state: state.disk_free_gib * _MIB_PER_GIB,
    "vcpus_total": lambda state: state.vcpus_total,
    "vcpus_used": lambda state: state.vcpus_used,
    "num_instances": lambda state: state.servers,
    "num_io_ops": lambda state: state.io_ops,
    "failed_builds": lambda state: state.failed_builds,
    "stats": lambda state: {name: read(state) for name, read in STATISTICS.items()},
    "service": lambda state: {
        "host": state.name,
        "binary": "nova-compute",
        "disabled": not state.enabled,
        "disabled_reason": state.disabled_reason,
    },
}
#: Nova's HostState has them; an extra spec without a scope that has such a name is taken for a capability.
UNKNOWN = frozenset(
    (
        *("pci_stats", "numa_topology", "limits", "metrics", "aggregates", "instances", "cell_uuid", "updated"),
        *("allocation_candidates", "update", "consume_from_request"),
    )
)


def attribute(state: HostState, name: str) -> Any:
    """The value of an attribute or a statistic; None when there is none."""
    if name in STATIC:
        return STATIC[name](state.facts)
    read = CHANGING.get(name) or STATISTICS.get(name)
    return None if read is None else read(state)


def follow(value: Any, path: Sequence[str]) -> Any:
    """What is found in a value under some keys, a text on the way being JSON; None when nothing is."""
    for key in path:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                return None
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value
