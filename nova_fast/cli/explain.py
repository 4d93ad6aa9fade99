"""``nova-fast explain``: why a server is where it is, or why it is nowhere, from a snapshot of the store."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from nova_fast.config import Config
from nova_fast.queries.decisions import described, explanation, find_server
from nova_fast.state.store import EngineError, Store, StoreError

EXIT_NOT_READ = 2


def explain(config: Config, wanted: str, *, as_json: bool) -> int:
    """Print it. Returns 2 when the store cannot be read. Raises NotFound and BadRequest for the name."""
    try:
        store = Store.open(config.store_path, readonly=True)
        try:
            with store.snapshot() as snapshot:
                found = explanation(snapshot, find_server(snapshot, wanted))
        finally:
            store.close()
    except (StoreError, EngineError, OSError) as error:
        print(f"nova-fast: cannot explain: {error}", file=sys.stderr)
        return EXIT_NOT_READ
    shown = described(found)
    print(msgspec.json.format(msgspec.json.encode(shown)).decode() if as_json else text(shown))
    return 0


def text(shown: dict[str, Any]) -> str:
    """An explanation for a person."""
    decision, fault = shown["decision"], shown["fault"]
    where = f"is on {shown['host']}" if shown["host"] else "has no host"
    lines = [f"Server {shown['server_name']} ({shown['server_id']}) {where}."]
    if decision is not None:
        lines += _decision_lines(decision, still_there=decision["host"] == shown["host"])
    elif shown["host"]:
        lines.append("How it came there was not kept: a release that did not keep it placed it.")
    elif fault is None:
        lines.append("No host has been chosen for it yet.")
    if fault is not None:
        lines.append(f"{fault['created']}: {fault['details']}")
    return "\n".join(lines)


def _decision_lines(decision: dict[str, Any], *, still_there: bool) -> list[str]:
    chosen, candidates, top = decision["host"], decision["candidates"], decision["top"]
    among = f"of {candidates} {'candidate' if candidates == 1 else 'candidates'}, " if candidates else ""
    lines = [
        f"{decision['decided_at']}: {chosen} was chosen {among}by policy {decision['policy'] or 'unknown'}"
        f"{'' if still_there else '; it could not be built there'}.",
        "Claim: " + (", ".join(f"{name} {amount}" for name, amount in decision["claim"].items()) or "nothing"),
    ]
    for cell in decision.get("cells", ()):
        own = f", CPUs of its own {', '.join(map(str, cell['cpus']))}" if cell["cpus"] else ""
        lines.append(f"NUMA cell {cell['cell']}: {cell['memory_mb']} MiB{own}")
    if decision.get("devices"):
        lines.append(f"PCI devices: {', '.join(decision['devices'])}")
    if decision["excluded_hosts"]:
        lines.append(f"Tried before: {', '.join(decision['excluded_hosts'])}")
    if top:
        lines.append(f"{'WEIGHT':>12}  HOST")
        lines += [f"{row['weight']:12.6g}  {row['host']}{' *' if row['host'] == chosen else ''}" for row in top]
    elif candidates:
        lines.append(
            f"Weight {decision['weight']:.6g}. It was placed with others at once; the other weights were not kept."
        )
    else:
        lines.append("The scheduler told again what it had chosen before; the weights were not kept.")
    return lines
