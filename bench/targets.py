"""What was promised: the one place that names the target of a measure.

``promised(name, value)`` reports a measure with its target. At the end of a full run :func:`unmeasured` says which of
them have no figure.
"""

from __future__ import annotations

from typing import NamedTuple

from bench.results import MEASURES, report


class Target(NamedTuple):
    """A promise."""

    says: str
    value: float
    unit: str
    less_is_better: bool = False


TARGETS: dict[str, Target] = {
    # REST, one worker
    "get_server_share_of_bare_falcon": Target("GET /servers/{id} against bare Falcon with the same JSON", 70, "%"),
    "get_servers_detail_1000": Target("GET /servers/detail, 1,000 rows, one worker", 400, "1/s"),
    "get_servers_detail_1000_p99_to_bare_send": Target(
        "its p99 against the bare send of the same bytes", 3, "times", less_is_better=True
    ),
    "post_servers_accepted_64_clients": Target("POST /servers durable, 64 clients", 3000, "1/s"),
    "post_servers_64_clients_p50_in_syncs": Target(
        "its p50 in syncs of the same disk", 2, "syncs", less_is_better=True
    ),
    "post_servers_64_clients_p99_to_p50": Target("its p99 against its p50", 10, "times", less_is_better=True),
    "bulk_create_accepted_10000": Target("10,000 servers in one call, accepted and durable", 20_000, "servers/s"),
    # the whole cloud
    "boots_to_active_100_computes": Target("boots to ACTIVE, 100 fake computes, sustained", 1500, "1/s"),
    "control_plane_cpu_per_boot": Target("CPU of the control plane for each", 0.7, "ms", less_is_better=True),
    "idle_pss": Target("idle memory of the control plane", 200, "MiB", less_is_better=True),
    "heartbeats_10000_hub_cores": Target("10,000 fake computes, a heartbeat every 5 s", 0.6, "cores", True),
    "heartbeats_10000_hub_pss": Target("memory of the hub's process with them", 512, "MiB", less_is_better=True),
    # the wire
    "hub_rpc_tcp_curve": Target("hub RPC through the broker, CURVE on", 20_000, "1/s"),
    "hub_rpc_tcp_curve_half_load_p99": Target("its p99 at half load", 5, "ms", less_is_better=True),
    "sdk_reads_pipelined": Target("reads by the ZeroMQ client SDK, pipelined", 25_000, "1/s"),
    # 1,000,000 servers: make bench-large
    "list_page_p99_1m_to_1k": Target("p99 of a list page, 1,000,000 servers against 1,000", 2, "times", True),
    "start_to_first_answer_1000k": Target("start-up with 1,000,000 servers", 5, "s", less_is_better=True),
    "bytes_a_server_on_disk_1000k": Target("of the store, a server", 3000, "B", less_is_better=True),
}


def promised(name: str, value: float) -> bool:
    """Report a measure that has a target."""
    target = TARGETS[name]
    return report(name, value, target.unit, target.value, less_is_better=target.less_is_better)


def unmeasured() -> list[str]:
    """The promises without a figure in this process."""
    return [name for name in TARGETS if name not in {measure.name for measure in MEASURES}]
