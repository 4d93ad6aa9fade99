"""Which figures the documents show: a table's rows, each with what it says, its cells and whose aims stand behind it.

``{measure}`` in a cell is that measure of the history with its unit. The last element of a row names the measures with
an aim, or is empty. ``bench/figures.py`` writes them.
"""

from __future__ import annotations

from typing import NamedTuple

from bench.slow_disk import SYNCS_MS


class Table(NamedTuple):
    """The words over the columns, and the rows: what it says, cells, names of measures with an aim."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


_PLAIN = ("measure", "value", "aim")


def _by_size(name: str, sizes: str = "1k 10k 100k 1m") -> tuple[str, ...]:
    """One measure at every number of hosts."""
    return tuple(f"{{{name.format(size)}}}" if size in sizes.split() else "" for size in ("1k", "10k", "100k", "1m"))


def _aims(name: str, sizes: str = "1k 10k 100k 1m") -> str:
    return " ".join(name.format(size) for size in sizes.split())


def _one(says: str, name: str) -> tuple[str, ...]:
    """One measure, with its own aim."""
    return says, f"{{{name}}}", name


def _on_slow_disk(sync_ms: int) -> tuple[str, str, str]:
    name = f"post_servers_disk_{sync_ms}ms"
    one, many = f"{name}_1_client", f"{name}_64_clients"
    return (
        f"— where each sync takes {sync_ms} ms longer: 64 clients, rate, p50 in syncs; one client, p50, in syncs too",
        f"{{{many}_accepted}}, {{{many}_p50_in_syncs}}; {{{one}_p50}}, {{{one}_p50_in_syncs}}",
        "",
    )


_DECISION = (
    "one decision of the table, with 2.5 changes of hosts",
    *_by_size("scheduler_decision_{}"),
    _aims("scheduler_decision_{}", "10k 100k 1m"),
)
_TAIL = ("its p99, as a multiple", *_by_size("scheduler_decision_{}_p99_to_p50"), "scheduler_decision_1m_p99_to_p50")
_OBJECTS = (
    "a pass over Python objects in Nova's shape takes, times as long",
    *_by_size("scheduler_index_to_python_objects_{}", "1k 10k 100k"),
    "scheduler_index_to_python_objects_10k",
)
_NOVA = (
    "Nova 34's own filters and weighers on the same hosts, against our whole step",
    *_by_size("scheduler_whole_step_to_nova_{}", "1k 10k"),
    "",
)
_SIZES = ("hosts", "1,000", "10,000", "100,000", "1,000,000", "aim")

TABLES = {
    "overview": Table(
        _PLAIN,
        (
            (
                "boots to ACTIVE, 100 fake computes, sustained for 60 s; CPU of the control plane for each",
                "{boots_to_active_100_computes}; {control_plane_cpu_per_boot}",
                "boots_to_active_100_computes control_plane_cpu_per_boot",
            ),
            ("— with a port each", "{boots_with_port_100_computes}", ""),
            _one("10,000 servers in one call, accepted and durable", "bulk_create_accepted_10000"),
            (
                "POST /servers, 64 clients for 2 s: accepted; ACTIVE, from the first request to the last boot",
                "{post_servers_accepted_64_clients}; {post_servers_64_clients_all_active}",
                "post_servers_accepted_64_clients",
            ),
            (
                "— on a disk whose sync takes 4 ms longer: accepted; one client alone, p50",
                "{post_servers_disk_4ms_64_clients_accepted}; {post_servers_disk_4ms_1_client_p50}",
                "",
            ),
            (
                "GET /servers/{id}, one worker; share of bare Falcon with the same JSON on our protocol / on uvicorn",
                "{get_server_per_worker}; {get_server_share_of_bare_falcon} / "
                "{get_server_share_of_bare_falcon_on_uvicorn} (by `wrk`: {get_server_share_of_bare_falcon_wrk} / "
                "{get_server_share_of_bare_falcon_on_uvicorn_wrk})",
                "get_server_share_of_bare_falcon",
            ),
            _one("GET /servers/detail, 1,000 servers", "get_servers_detail_1000"),
            _one("reads by the ZeroMQ SDK", "sdk_reads_pipelined"),
            (
                "hub calls, tcp with CURVE; p99 at half load",
                "{hub_rpc_tcp_curve}; {hub_rpc_tcp_curve_half_load_p99}",
                "hub_rpc_tcp_curve hub_rpc_tcp_curve_half_load_p99",
            ),
            (
                "10,000 fake computes, a heartbeat every 5 s: the hub's process",
                "{heartbeats_10000_hub_cores}; {heartbeats_10000_hub_pss}",
                "heartbeats_10000_hub_cores heartbeats_10000_hub_pss",
            ),
            _one("`nova-fast up` to the first answer", "up_to_first_answer"),
            _one("memory of the whole idle control plane (PSS)", "idle_pss"),
            (
                "1,000,000 servers placed on 100,000 hosts and recorded, each commit synced",
                "{large_1000000_placed_on_100000_hosts}",
                "",
            ),
            _one("a cloud with 1,000,000 servers, `nova-fast up` to the first page", "start_to_first_answer_1000k"),
        ),
    ),
    "scheduler_overview": Table(
        _SIZES,
        (
            _DECISION,
            _TAIL,
            _OBJECTS,
            _NOVA,
            (
                "through the hub, each server with the best ten hosts it was chosen from",
                "",
                "{scheduler_through_hub_10k}",
                "",
                "",
                "scheduler_through_hub_10k",
            ),
        ),
    ),
    "cloud": Table(
        _PLAIN,
        (
            (
                "GET /servers/{id}, one worker, 32 connections: rate; p50; p99",
                "{get_server_per_worker}; {get_server_p50}; {get_server_p99}",
                "",
            ),
            (
                "— share of bare Falcon with the same JSON on our own HTTP protocol / on uvicorn (by `wrk`)",
                "{get_server_share_of_bare_falcon} / {get_server_share_of_bare_falcon_on_uvicorn} "
                "({get_server_share_of_bare_falcon_wrk} / {get_server_share_of_bare_falcon_on_uvicorn_wrk})",
                "get_server_share_of_bare_falcon",
            ),
            (
                "— CPU of the worker a request, ours / bare Falcon",
                "{get_server_api_cpu} / {bare_falcon_cpu}",
                "",
            ),
            ("— bare Falcon on uvicorn itself", "{bare_falcon_on_uvicorn}", ""),
            ("— while the cloud boots and deletes, of the rate at rest", "{get_server_while_changing}", ""),
            (
                "GET /servers/detail, 1,000 rows of 1.9 kB, kept: rate; p99",
                "{get_servers_detail_1000}; {get_servers_detail_1000_p99}",
                "get_servers_detail_1000",
            ),
            _one("— p99 against the bare send of the same bytes", "get_servers_detail_1000_p99_to_bare_send"),
            (
                "— while the cloud boots and deletes, of the rate at rest; right after all 1,000 have changed, once",
                "{get_servers_detail_1000_while_changing}; {get_servers_detail_1000_all_changed}",
                "",
            ),
            _one("POST /servers, durable, 64 clients, rounds of 2 s: rate", "post_servers_accepted_64_clients"),
            (
                "— came to ACTIVE meanwhile; from the first request to the last boot",
                "{post_servers_64_clients_boots_meanwhile}; {post_servers_64_clients_all_active}",
                "",
            ),
            (
                "— p50 in syncs of the disk (half load; one client)",
                "{post_servers_64_clients_p50_in_syncs} ({post_servers_half_load_p50_in_syncs}; "
                "{post_servers_1_client_p50_in_syncs})",
                "post_servers_64_clients_p50_in_syncs",
            ),
            ("— one sync of a page on this disk", "{disk_sync_p50}", ""),
            *[_on_slow_disk(sync_ms) for sync_ms in SYNCS_MS],
            _one("— p99 against p50", "post_servers_64_clients_p99_to_p50"),
            (
                "10,000 servers in one call, accepted and durable; until all of them run",
                "{bulk_create_accepted_10000}; {bulk_boots_10000}",
                "bulk_create_accepted_10000",
            ),
            (
                "open loop, Poisson, reads: knee; p99 at half of it",
                "{open_loop_read_knee}; {open_loop_read_half_load_p99}",
                "",
            ),
            (
                "open loop, creates and deletes: knee; p50, p99, p99.9 at half of it",
                "{open_loop_create_delete_knee}; {open_loop_create_delete_half_load_p50}, "
                "{open_loop_create_delete_half_load_p99}, {open_loop_create_delete_half_load_p99.9}",
                "",
            ),
            (
                "open loop, whole lives of servers: knee; p99 at half of it",
                "{open_loop_lifecycle_knee}; {open_loop_lifecycle_half_load_p99}",
                "",
            ),
            (
                "reads by the ZeroMQ SDK, in messages of 64; one by one; against REST",
                "{sdk_reads_pipelined}; {sdk_reads_single_calls}; {sdk_reads_to_rest}",
                "sdk_reads_pipelined",
            ),
            (
                "10,000 servers in one call of the SDK, accepted and durable",
                "{sdk_bulk_create_accepted_10000}",
                "",
            ),
            (
                "whole lives of servers by the SDK, open loop: knee; p99 at half of it",
                "{sdk_open_loop_lifecycle_knee}; {sdk_open_loop_lifecycle_half_load_p99}",
                "",
            ),
            (
                "hub calls over tcp with CURVE, 64 in flight: rate; p99",
                "{hub_rpc_tcp_curve}; {hub_rpc_tcp_curve_p99}",
                "hub_rpc_tcp_curve",
            ),
            (
                "— p99 at half load, offered once a millisecond; what the host took of the processors meanwhile",
                "{hub_rpc_tcp_curve_half_load_p99}; {hub_rpc_tcp_curve_half_load_stolen}",
                "hub_rpc_tcp_curve_half_load_p99",
            ),
            (
                "hub calls over a Unix socket, 64 in flight: rate; p99; p99 at half load",
                "{hub_rpc_ipc}; {hub_rpc_ipc_p99}; {hub_rpc_ipc_half_load_p99}",
                "",
            ),
            ("events to 4 watchers, over tcp with CURVE", "{hub_events_tcp_curve_4_watchers}", ""),
            (
                "durable records, 1, 8, 64, 512 in a commit",
                "{store_records_1_in_a_commit}, {store_records_8_in_a_commit}, {store_records_64_in_a_commit}, "
                "{store_records_512_in_a_commit}",
                "",
            ),
            (
                "a page of 100 servers, 100,000 in the store against 1,000: p99",
                "{store_page_p99_100k_to_1k}",
                "",
            ),
            ("the store, a server with port, action and event, at 100,000", "{store_bytes_a_server_100k}", ""),
            _one("`nova-fast up` to the first answer of the API", "up_to_first_answer"),
            _one("idle memory of the control plane (PSS; fake drivers)", "idle_pss"),
            (
                "boots to ACTIVE, 100 fake computes, sustained for 60 s; in the worst 10 s",
                "{boots_to_active_100_computes}; {boots_to_active_worst_10_s}",
                "boots_to_active_100_computes",
            ),
            (
                "— CPU of the control plane for each (conductor, scheduler, API)",
                "{control_plane_cpu_per_boot} ({cpu_per_boot_conductor}, {cpu_per_boot_scheduler}, "
                "{cpu_per_boot_api-0})",
                "control_plane_cpu_per_boot",
            ),
            (
                "— 1, 10, 100, 1,000, 10,000 fake computes, shorter runs",
                "{boots_1_computes}, {boots_10_computes}, {boots_100_computes}, {boots_1000_computes}, "
                "{boots_10000_computes}",
                "",
            ),
            ("— with a port each, 100 fake computes", "{boots_with_port_100_computes}", ""),
            ("deletes accepted; done", "{deletes_accepted}; {deletes}", ""),
            ("memory and disk a server, without a port", "{memory_a_server}; {disk_a_server}", ""),
            (
                "10,000 fake computes over tcp with CURVE, a heartbeat each 5 s, no servers: the hub's process",
                "{heartbeats_10000_hub_cores}; {heartbeats_10000_hub_pss}",
                "heartbeats_10000_hub_cores heartbeats_10000_hub_pss",
            ),
            (
                "— after all boots above: servers; memory of the hub, of it pages of files",
                "{servers_after_all_boots}; {hub_pss_after_all_boots}, {hub_pss_after_all_boots_of_files}",
                "",
            ),
            (
                "— until all 10,000 are up; memory of the hub a host, most of it ZeroMQ's queues",
                "{hosts_10000_up}; {memory_a_host_hub}",
                "",
            ),
        ),
    ),
    "scheduler": Table(
        _SIZES,
        (
            _DECISION,
            _TAIL,
            (
                "— with idle moments between decisions (the table tends itself)",
                *_by_size("scheduler_decision_{}_p99_to_p50_with_idle_moments"),
                "scheduler_decision_1m_p99_to_p50_with_idle_moments",
            ),
            ("against a pass over all hosts", *_by_size("scheduler_index_to_scan_{}"), ""),
            _OBJECTS,
            (
                "a class of requests that is new",
                *_by_size("scheduler_cold_class_{}"),
                "scheduler_cold_class_1m",
            ),
            ("memory a class", *_by_size("scheduler_bytes_a_class_{}"), "scheduler_bytes_a_class_1m"),
            (
                "the whole step, single requests: lower, choose, claim, commit, release",
                *_by_size("scheduler_decisions_{}", "1k 10k 100k"),
                _aims("scheduler_decisions_{}", "1k 10k 100k"),
            ),
            _NOVA,
        ),
    ),
    "scheduler_kinds": Table(
        _PLAIN,
        (
            _one(
                "through the hub at 10,000 hosts, servers of twenty flavors as the dispatcher asks for them, each with "
                "its best ten",
                "scheduler_through_hub_10k",
            ),
            ("— each server asked for alone", "{scheduler_through_hub_10k_each_alone}", ""),
            _one("10,000 equal servers at 100,000 hosts", "scheduler_batch_10k_at_100k"),
            (
                "anti-affinity; affinity; soft affinity at 100,000 hosts",
                "{scheduler_anti_affinity_100k}; {scheduler_affinity_100k}; {scheduler_soft_affinity_100k}",
                "scheduler_anti_affinity_100k scheduler_affinity_100k scheduler_soft_affinity_100k",
            ),
            _one("a further term on every host, at 100,000 hosts (our own aim)", "scheduler_dense_term_100k"),
            (
                "what-if at 100,000 hosts: few fit and the last one's host is found; millions fit; the slowest kind",
                "{scheduler_capacity_100k_few_fit}; {scheduler_capacity_100k_many_fit}; "
                "{scheduler_capacity_100k_slowest}",
                "scheduler_capacity_100k_slowest",
            ),
            ("a pass over 1,000,000 hosts", "{scheduler_scan_1m}", ""),
            _one("memory a host at 1,000,000", "scheduler_bytes_a_host_1m"),
        ),
    ),
    "start": Table(
        ("measure, 100,000 servers and 10,000 hosts", "value", "aim"),
        (
            ("what the store takes of the disk", "{store_100k}", ""),
            _one("`nova-fast up` to the first page of servers", "start_to_first_answer_100k"),
            _one("`nova-fast up` to the first new server with a host", "start_to_first_placement_100k"),
            ("`nova-fast check`, 430,000 records in one snapshot", "{check_100k}", ""),
            ("`nova-fast backup`", "{backup_100k}", ""),
        ),
    ),
    "large": Table(
        _PLAIN,
        (
            (
                "1,000,000 servers accepted, placed on 100,000 hosts and recorded, each commit synced (commands, "
                "engine and scheduler in one process, without the wire); CPU each",
                "{large_1000000_placed_on_100000_hosts}, {large_placed}; {large_cpu_a_server}",
                "",
            ),
            _one("1,000,000 servers that run on 10,000 hosts: the store, a server", "bytes_a_server_on_disk_1000k"),
            (
                "— `nova-fast up` to the first page of servers; to the first new server with a host",
                "{start_to_first_answer_1000k}; {start_to_first_placement_1000k}",
                "start_to_first_answer_1000k",
            ),
            (
                "— a page of 100 of the list: p99; against the same with 1,000 servers",
                "{list_page_p99_large}; {list_page_p99_1m_to_1k}",
                "list_page_p99_1m_to_1k",
            ),
            ("— memory of the control plane after the start (PSS)", "{start_pss_1000k}", ""),
        ),
    ),
}
