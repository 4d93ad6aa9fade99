"""How long the long proofs run: bounded in ``make test``, as long as it takes in ``make torture``.

A proof that gains by repetition is marked ``torture`` and asks here how often it repeats itself.
"""

from __future__ import annotations

import os

TORTURE = bool(os.environ.get("NOVA_FAST_TORTURE"))


def repeats(short: int, long: int) -> int:
    """``short`` under ``make test``, ``long`` under ``make torture``."""
    assert 0 < short <= long
    return long if TORTURE else short
