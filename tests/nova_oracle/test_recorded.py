"""What Nova said of some hundred cases, kept in the tree: every machine compares with Nova, with or without one.

``python -m tests.nova_oracle --record 300`` asks Nova anew.
"""

from __future__ import annotations

import copy
import json

from . import ours
from .compare import differences
from .generate import case
from .minimise import minimise
from .run import recorded


def test_we_say_what_nova_said() -> None:
    kept = recorded()
    assert len(kept) >= 200
    found = [(asked["seed"], *differences(answer, ours.judge(asked))) for asked, answer in kept]
    assert [one for one in found if len(one) > 1] == []


def test_an_answer_that_is_not_ours_is_seen() -> None:
    """Every part of the answers is compared: whatever Nova would say otherwise makes a difference."""
    asked, answer = next(pair for pair in recorded() if len(pair[1].get("weights", {})) > 2)
    said = ours.judge(asked)
    host = answer["chosen"][0]
    for path in (("placement",), ("chosen",), ("filters", "AllHostsFilter", "passed")):
        other = copy.deepcopy(answer)
        inner = other
        for step in path:
            inner = inner[step]
        inner.remove(host)
        assert differences(other, said), path
    for name in ("weights", "weights_of_all"):
        other = copy.deepcopy(answer)
        other[name][host] = (float.fromhex(other[name][host]) + 1e-12).hex()
        assert differences(other, said), name


def test_a_seed_is_one_case_and_plain_data() -> None:
    assert case(7) == case(7) != case(8)
    assert json.loads(json.dumps(case(7))) == case(7)


def test_a_case_is_made_as_small_as_what_it_shows() -> None:
    large = next(case(seed) for seed in range(100) if len(case(seed)["hosts"]) > 8)
    small = minimise(large, lambda smaller: any(host["name"] == "host-05" for host in smaller["hosts"]))
    assert [host["name"] for host in small["hosts"]] == ["host-05"]
    assert not small["aggregates"] and not small["servers"] and not small["options"]
