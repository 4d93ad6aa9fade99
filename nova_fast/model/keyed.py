"""What is kept of a request with an Idempotency-Key, so that its repetition gets the same answer."""

from __future__ import annotations

from nova_fast.model.base import Record


class KeyedAnswer(Record, frozen=True):
    """The result of a command that came with a key. Neither the key nor a secret can be read from it."""

    id: str  # 32 hex: a digest of who asked what under which key
    owner: str  # whose bound it counts against
    at_us: int  # steady time
    fingerprint: bytes  # of the request, to refuse another one under the same key
    sealed: bytes  # the secret the answer showed, under a key made from the client's; b"" = none
    result: bytes


class KeyedUsage(Record, frozen=True):
    """How much is kept for one owner."""

    owner: str
    count: int
    bytes: int
