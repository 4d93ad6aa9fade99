"""What is kept only for a while, dropped when its time is over: events, results of commands, answers of keys,
revocations.

Each pass drops a bounded number of rows, so that it never holds up the commands behind it; whoever calls it does so
again as long as something was dropped in full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from nova_fast.commands.keyed import drop_keyed
from nova_fast.model.base import Record
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

R = TypeVar("R", bound=Record)

EVENTS_MAX = 100_000
DONE_AGE_US = 600_000_000  # longer than any caller repeats a call
REVOKED_KEPT_US = 172_800_000_000  # behind its end: a clock that is set back must not make a revoked token good again
KEYED_AGE_US = 86_400_000_000  # what clients of Idempotency-Key are used to
ROWS_MAX = 2_000  # of each table in one pass


def trim(
    tx: Transaction, *, events_max: int = EVENTS_MAX, done_age_us: int = DONE_AGE_US, rows_max: int = ROWS_MAX
) -> bool:
    """Drop what is too old, at most ``rows_max`` rows of each table; whether there may be more."""
    oldest_kept = tx.generation() - events_max
    events = tx.delete_until(tables.EVENTS, (oldest_kept,), rows_max)
    done = _first(tx.scan_index(tables.DONE_BY_TIME, limit=rows_max), lambda row: row.at_us <= tx.time_us - done_age_us)
    for row in done:
        tx.delete(tables.DONE_COMMANDS, row.call_id)
    expired = tx.scan_index(tables.REVOKED_BY_EXPIRY, limit=rows_max)
    revoked = _first(expired, lambda row: row.expires_at_us <= tx.now_us - REVOKED_KEPT_US)
    for revocation in revoked:
        tx.delete(tables.REVOKED_TOKENS, revocation.audit_id)
    keyed_rows = tx.scan_index(tables.KEYED_BY_TIME, limit=rows_max)
    keyed = _first(keyed_rows, lambda row: row.at_us <= tx.time_us - KEYED_AGE_US)
    for answer in keyed:
        drop_keyed(tx, answer)
    return max(events, len(done), len(revoked), len(keyed)) >= rows_max


def _first(rows: Iterator[R], old: Callable[[R], bool]) -> list[R]:
    """The rows at the beginning that are too old; no more are read than that and one."""
    found: list[R] = []
    for row in rows:
        if not old(row):
            break
        found.append(row)
    return found
