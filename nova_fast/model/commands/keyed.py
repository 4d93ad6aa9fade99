"""A command that is done once for an Idempotency-Key, whoever sends it again and however much later."""

from __future__ import annotations

from nova_fast.model.base import Message

#: The code of the Conflict that says: this key's command has been done, read its answer from the store.
DONE_BEFORE = "idempotency_key_done"


class KeyedCommand(Message, frozen=True):
    """Another command, and under what its result is kept. The result is that command's."""

    id: str
    owner: str
    fingerprint: bytes
    sealed: bytes
    command: bytes  # the other command in msgpack


COMMANDS = (KeyedCommand,)
RESULTS = ()
