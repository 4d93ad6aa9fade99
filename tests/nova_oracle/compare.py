"""What differs between Nova's answer and ours.

Both answers have one shape: ``{"placement": [hosts], "filters": {name: {"passed": [hosts], "raised": {host: why}}},
"chosen": [hosts], "weights": {host: hex}, "weights_of_all": {host: hex}}``; ``{"refused": why}`` stands for a request
that is not taken at all.

Where Nova's filter ends a request with an error (a malformed query, a number that is none), ours must not let the host
pass; what it says instead is our own choice. ``CHOSEN`` lists where we differ on purpose.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Case = dict[str, Any]
Answer = dict[str, Any]

#: (filter, beginning of Nova's error) → why we may pass hosts where Nova ends the request with an error.
CHOSEN = {
    ("ImagePropertiesFilter", "AttributeError"): "hw_maxphysaddr_bits: Nova 34 takes the text of cpu_info for a dict",
    (
        "AggregateInstanceExtraSpecsFilter",
        "ValueError",
    ): "of several values one is no number: Nova goes by a set's order",
    ("JsonFilter", "AttributeError"): "a key of what has no keys is as absent as any other",
    ("JsonFilter", "TypeError"): "a number against a text is false; the rest of the expression counts",
}


class Difference(NamedTuple):
    where: str  # a filter, "placement", "chosen", "weights" or "weights_of_all"
    host: str
    nova: str
    ours: str

    def __str__(self) -> str:
        return f"{self.where}: {self.host}: Nova says {self.nova}, we say {self.ours}"


def differences(nova: Answer, ours: Answer) -> list[Difference]:
    """All that both do not say alike."""
    if "refused" in nova:
        return []
    found = []
    for name, verdict in ours["filters"].items():
        found += _filter_differences(name, nova["filters"][name], verdict)
    found += _cell_differences(nova, ours)
    found += _set_differences("placement", nova["placement"], ours["placement"])
    if "refused" in ours:
        # Nova asks a filter only while hosts are left; we refuse a hint that makes no sense before we look at hosts.
        if not any(verdict["raised"] for verdict in nova["filters"].values()):
            found.append(Difference("request", "all", "accepted", f"refused: {ours['refused']}"))
        return found
    if "chain_raised" not in nova:
        found += _set_differences("chosen", nova["chosen"], ours["chosen"])
        found += _weight_differences("weights", nova["weights"], ours["weights"])
        if "weights_by_table" in ours:
            found += _weight_differences("weights_by_table", nova["weights"], ours["weights_by_table"])
    found += _weight_differences("weights_of_all", nova["weights_of_all"], ours["weights_of_all"])
    return found


def _filter_differences(name: str, nova: Answer, ours: Answer) -> list[Difference]:
    found = []
    nova_passed, our_passed = set(nova["passed"]), set(ours["passed"])
    for host in sorted(nova_passed ^ our_passed):
        said, we_said = "passes" if host in nova_passed else "fails", "passes" if host in our_passed else "fails"
        if host in nova["raised"]:
            said = nova["raised"][host]
            if any(name == chosen and said.startswith(error) for chosen, error in CHOSEN):
                continue
        if host in ours["raised"]:
            we_said = ours["raised"][host]
        found.append(Difference(name, host, said, we_said))
    return found


def _cell_differences(nova: Answer, ours: Answer) -> list[Difference]:
    """CPUs and pages that a host would give; where Nova's own choice cannot be made, ours is not compared."""
    said, answered = nova.get("cells", {}), ours["cells"]
    return [
        Difference("cells", host, str(cells), str(answered.get(host)))
        for host, cells in said.items()
        if cells not in (None, "stale") and cells != answered.get(host)
    ]


def _set_differences(where: str, nova: list[str], ours: list[str]) -> list[Difference]:
    return [
        Difference(where, host, "passes" if host in nova else "fails", "passes" if host in ours else "fails")
        for host in sorted(set(nova) ^ set(ours))
    ]


def _weight_differences(where: str, nova: Answer, ours: Answer) -> list[Difference]:
    if "raised" in nova or "raised" in ours:
        both = "raised" in nova and "raised" in ours
        return [] if both else [Difference(where, "all", str(nova.get("raised")), str(ours.get("raised")))]
    found = [
        Difference(
            where,
            host,
            f"{nova.get(host)} ({_decimal(nova.get(host))})",
            f"{ours.get(host)} ({_decimal(ours.get(host))})",
        )
        for host in sorted(nova.keys() | ours.keys())
        if nova.get(host) != ours.get(host)
    ]
    if not found and winners(nova) != winners(ours):
        found.append(Difference(where, "winners", str(winners(nova)), str(winners(ours))))
    return found


def _decimal(text: str | None) -> str:
    return "absent" if text is None else repr(float.fromhex(text))


def winners(weights: Answer) -> set[str]:
    """The hosts of the highest weight."""
    values = {host: float.fromhex(text) for host, text in weights.items()}
    best = max(values.values(), default=0.0)
    return {host for host, value in values.items() if value == best}
