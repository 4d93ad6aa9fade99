"""A command under an Idempotency-Key: done once, its result kept in the same transaction.

What is kept is bounded for each user in a project: over the bound his oldest answers go first, so nobody can fill the
store, and nobody can push out the answers of another.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

import msgspec

from nova_fast.commands import registry
from nova_fast.commands.registry import command
from nova_fast.model.base import Message
from nova_fast.model.commands import COMMANDS
from nova_fast.model.commands.keyed import DONE_BEFORE, KeyedCommand
from nova_fast.model.errors import Conflict, TooLarge
from nova_fast.model.keyed import KeyedAnswer, KeyedUsage
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

ANSWERS_MAX = 10_000  # of one user in one project
BYTES_MAX = 16 << 20
ANSWER_BYTES_MAX = 512 << 10  # the ids of 10,000 servers are 380,000
ANSWER_OVERHEAD_BYTES = 256  # ids, times and index entries
DROPPED_MAX = 64  # by one command, so that it never holds up those behind it

_encode = msgspec.msgpack.Encoder().encode
_union: Any = functools.reduce(operator.or_, (kind for kind in COMMANDS if kind is not KeyedCommand))
_decode = msgspec.msgpack.Decoder(_union).decode


@command(KeyedCommand)
def run_keyed(tx: Transaction, request: KeyedCommand) -> Message:
    """Do the command unless its key has been used. Raises Conflict (DONE_BEFORE), and what the command raises."""
    if tx.get(tables.KEYED_ANSWERS, request.id) is not None:
        raise Conflict(
            "A request with this Idempotency-Key is being answered.", code=DONE_BEFORE, hint="send the same again"
        )
    result: Message = registry.run(tx, _decode(request.command))
    row = KeyedAnswer(
        id=request.id,
        owner=request.owner,
        at_us=tx.time_us,
        fingerprint=request.fingerprint,
        sealed=request.sealed,
        result=_encode(result),
    )
    if _size(row) > ANSWER_BYTES_MAX:
        raise TooLarge(
            f"The answer is larger than {ANSWER_BYTES_MAX} bytes and cannot be kept for an Idempotency-Key.",
            code="keyed_answer_too_large",
            hint="ask for fewer things at once",
        )
    _make_room(tx, row.owner, _size(row))
    tx.insert(tables.KEYED_ANSWERS, row)
    _count(tx, row, 1)
    return result


def drop_keyed(tx: Transaction, row: KeyedAnswer) -> None:
    """Forget an answer."""
    tx.delete(tables.KEYED_ANSWERS, row.id)
    _count(tx, row, -1)


def _make_room(tx: Transaction, owner: str, size: int) -> None:
    used = tx.get(tables.KEYED_USAGE, owner)
    if used is None:
        return
    count, total = used.count, used.bytes
    if count < ANSWERS_MAX and total + size <= BYTES_MAX:
        return
    for row in list(tx.scan_index(tables.KEYED_BY_OWNER, owner, limit=DROPPED_MAX)):
        if count < ANSWERS_MAX and total + size <= BYTES_MAX:
            return
        drop_keyed(tx, row)
        count, total = count - 1, total - _size(row)


def _count(tx: Transaction, row: KeyedAnswer, by: int) -> None:
    used = tx.get(tables.KEYED_USAGE, row.owner) or KeyedUsage(owner=row.owner, count=0, bytes=0)
    if used.count + by == 0:
        tx.delete(tables.KEYED_USAGE, row.owner)
        return
    changed = KeyedUsage(owner=row.owner, count=used.count + by, bytes=used.bytes + by * _size(row))
    tx.put(tables.KEYED_USAGE, changed)


def _size(row: KeyedAnswer) -> int:
    return len(row.result) + len(row.sealed) + len(row.owner) + ANSWER_OVERHEAD_BYTES
