"""The far end of ``bench.nova_peer``, inside Nova's environment: one decision of Nova's own classes for each line.

The clock runs over ``HostManager.get_filtered_hosts`` and ``get_weighed_hosts`` only. Host states are made beforehand,
and the hosts without room are taken out beforehand, because Nova has placement for that.
"""

from __future__ import annotations

import gc
import json
import logging
import sys
import time
from importlib.metadata import version
from typing import Any

from nova import objects
from nova.pci import stats
from nova.scheduler.host_manager import HostState
from oslo_utils import timeutils

from tests.nova_oracle.nova_side.judge import Manager, prepare_filters
from tests.nova_oracle.nova_side.world import CONF, prepare, request_spec

FILTERS = (
    "ComputeFilter",
    "ComputeCapabilitiesFilter",
    "ImagePropertiesFilter",
    "ServerGroupAntiAffinityFilter",
    "ServerGroupAffinityFilter",
)
(
    NAME,
    VCPUS,
    VCPUS_USED,
    RAM,
    RAM_USED,
    DISK,
    DISK_USED,
    CPU_RATIO,
    RAM_RATIO,
    DISK_RATIO,
    IO,
    SERVERS,
    FAILED,
    VERSION,
) = range(14)
Row = list[Any]


def host_state(row: Row) -> HostState:
    """What ``HostState.update`` makes of a compute node."""
    state = HostState(row[NAME], row[NAME], "cell")
    state.uuid = row[NAME]
    state.vcpus_total, state.vcpus_used = row[VCPUS], row[VCPUS_USED]
    state.total_usable_ram_mb, state.free_ram_mb = row[RAM], row[RAM] - row[RAM_USED]
    state.total_usable_disk_gb, state.free_disk_mb = row[DISK], (row[DISK] - row[DISK_USED]) * 1024
    state.cpu_allocation_ratio, state.ram_allocation_ratio, state.disk_allocation_ratio = row[
        CPU_RATIO : DISK_RATIO + 1
    ]
    state.num_io_ops, state.num_instances, state.failed_builds = row[IO], row[SERVERS], row[FAILED]
    state.hypervisor_type, state.hypervisor_version = "QEMU", row[VERSION]
    state.supported_instances = [["x86_64", "kvm", "hvm"], ["x86_64", "qemu", "hvm"]]
    state.stats = {"num_instances": str(row[SERVERS]), "io_workload": str(row[IO])}
    state.pci_stats = stats.PciDeviceStats(None)
    state.metrics = objects.MonitorMetricList(objects=[])
    now = timeutils.utcnow()
    state.service = {"disabled": False, "forced_down": False, "last_seen_up": now, "created_at": now}
    state.allocation_candidates = [{"mappings": {}}]
    return state


def has_room(row: Row, vcpus: int, ram_mib: int, disk_gib: int) -> bool:
    return (
        row[VCPUS_USED] + vcpus <= int(row[VCPUS] * row[CPU_RATIO])
        and row[RAM_USED] + ram_mib <= int(row[RAM] * row[RAM_RATIO])
        and row[DISK_USED] + disk_gib <= int(row[DISK] * row[DISK_RATIO])
    )


def asked(vcpus: int, ram_mib: int, disk_gib: int) -> objects.RequestSpec:
    flavor = {"vcpus": vcpus, "ram_mib": ram_mib, "disk_gib": disk_gib, "ephemeral_gib": 0, "swap_mib": 0}
    request = {
        "server_id": "00000000-0000-4000-8000-000000000000",
        "project_id": "project",
        "flavor": {"name": "flavor", "extra_specs": {}, **flavor},
        "image": {"id": "image", "properties": {"hw_architecture": "x86_64"}},
        "hints": {},
        "group": None,
        "zone": "",
        "requested_host": "",
        "excluded_hosts": [],
    }
    return request_spec({"request": request, "servers": []})


def decide(manager: Manager, rows: list[Row], states: list[HostState], wanted: list[int]) -> dict[str, Any]:
    spec = asked(*wanted)
    now = timeutils.utcnow()
    candidates = [state for row, state in zip(rows, states, strict=True) if has_room(row, *wanted)]
    for state in candidates:
        state.service["last_seen_up"] = now
    gc.collect()
    started = time.perf_counter()
    passed = list(manager.get_filtered_hosts(candidates, spec))
    filtered = time.perf_counter()
    weighed = manager.get_weighed_hosts(passed, spec)
    ended = time.perf_counter()
    best = weighed[0].weight if weighed else 0.0
    return {
        "filter_s": filtered - started,
        "weigh_s": ended - filtered,
        "candidates": len(candidates),
        "passed": len(passed),
        "best": [host.obj.host for host in weighed if host.weight == best],
        "weight": float(best).hex(),
    }


def main() -> None:
    answers = sys.stdout
    sys.stdout = sys.stderr
    logging.disable(logging.DEBUG)  # as a Nova that is not debugged
    prepare()
    prepare_filters()
    CONF.set_override("enabled_filters", list(FILTERS), group="filter_scheduler")
    manager = Manager()
    rows: list[Row] = []
    states: list[HostState] = []
    print(json.dumps({"nova": version("nova")}), file=answers, flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        if "hosts" in question:
            rows = question["hosts"]
            states = [host_state(row) for row in rows]
            answer: dict[str, Any] = {"hosts": len(rows)}
        else:
            answer = decide(manager, rows, states, question["request"])
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
