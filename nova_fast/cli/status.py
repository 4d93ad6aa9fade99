"""``nova-fast status``: a table of the processes that make up the cloud of this machine."""

from __future__ import annotations

import time

import msgspec

from nova_fast.cli import libvirt_host, processes, supervisor
from nova_fast.cli.lifecycle import Cloud
from nova_fast.waits import waited_for

HEADER = ("DAEMON", "STATE", "PID", "UP SINCE", "RESTARTS", "MEMORY PSS", "LAST EXIT")


class Row(msgspec.Struct, frozen=True):
    """One process."""

    name: str
    pid: int | None
    started_at_s: float | None
    restarts: int | None
    last_exit: str = ""
    memory_kib: int | None = None
    waits: str = ""  # for what, before it can serve


def status(cloud: Cloud) -> int:
    """Print the table, and what daemons wait for; returns 0 only when every daemon is up and has begun."""
    rows = cloud_rows(cloud)
    host = libvirt_rows(cloud)
    print(table(rows + host, _total_kib(rows)))
    for row in rows:
        if row.waits:
            print(f"{row.name} waits: {row.waits}")
    return 0 if all(row.pid is not None and not row.waits for row in rows) else 1


def cloud_rows(cloud: Cloud) -> list[Row]:
    """The supervisor and its daemons; from their pid files where the supervisor is gone."""
    rows = _rows(cloud.setting, "supervisor")
    found = waited_for(cloud.config.run_path, {row.name: row.pid for row in rows if row.pid is not None})
    return [msgspec.structs.replace(row, waits=found.get(row.name, "")) for row in rows]


def libvirt_rows(cloud: Cloud) -> list[Row]:
    """The libvirt daemons, if we run them."""
    if cloud.config.compute.driver != "libvirt" or not libvirt_host.is_ours(cloud.config):
        return []
    return _rows(libvirt_host.setting(cloud.config), libvirt_host.SETTING_NAME)


def table(rows: list[Row], total_kib: int) -> str:
    """The rows as text, columns aligned."""
    cells = [HEADER, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([*lines, f"control plane: {_mebibytes(total_kib)}"])


def _rows(setting: supervisor.Setting, supervisor_name: str) -> list[Row]:
    recorded = supervisor.read_status(setting)
    own = processes.running(setting.pid_path)
    first = Row(supervisor_name, None, None, None)
    if own is not None:
        started_at_s = recorded.started_at_s if recorded else None
        first = Row(supervisor_name, own.pid, started_at_s, None, memory_kib=processes.proportional_memory_kib(own.pid))
    known = {program.name: program for program in recorded.programs} if recorded else {}
    left = supervisor.leftovers(setting)
    rows = [first]
    for program in setting.programs:
        entry = known.get(program.name)
        identity = entry.identity if entry and entry.is_up else left.get(program.name)
        rows.append(
            Row(
                name=program.name,
                pid=identity.pid if identity else None,
                started_at_s=entry.started_at_s if entry and identity == entry.identity else None,
                restarts=entry.restarts if entry else None,
                last_exit=entry.last_exit if entry else "",
                memory_kib=processes.proportional_memory_kib(identity.pid) if identity else None,
            )
        )
    return rows


def _cells(row: Row) -> tuple[str, ...]:
    since = (
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.started_at_s)) if row.pid and row.started_at_s else "-"
    )
    return (
        row.name,
        "down" if row.pid is None else "waits" if row.waits else "up",
        "-" if row.pid is None else str(row.pid),
        since,
        "-" if row.restarts is None else str(row.restarts),
        "-" if row.memory_kib is None else _mebibytes(row.memory_kib),
        row.last_exit or "-",
    )


def _total_kib(rows: list[Row]) -> int:
    return sum(row.memory_kib or 0 for row in rows)


def _mebibytes(kib: int) -> str:
    return f"{kib / 1024:.1f} MiB"
