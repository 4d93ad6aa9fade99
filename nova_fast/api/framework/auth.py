"""Who asks: a token becomes a caller, remembered per worker until anything in identity changes.

SAFETY: an entry counts only at the identity generation at which it was made. Every change of a user, project, role,
assignment, credential or revocation grows that number in the same commit, so a void token dies at the next request.
"""

from __future__ import annotations

import time

import msgspec

from nova_fast.identity.grants import Grant, resolve, token_key
from nova_fast.identity.tokens import TokenFacts, unseal
from nova_fast.model.errors import Unauthorized
from nova_fast.queries.reading import Reader

#: A worker that sees more tokens than fit here in one generation forgets the oldest half.
CACHE_BYTES_MAX = 8 << 20
#: What a token and what it grants take, and each role among it.
TOKEN_BYTES, ROLE_BYTES = 1200, 300


class Verified(msgspec.Struct, frozen=True):
    """A token that holds now: what it says, and what it grants."""

    facts: TokenFacts
    grant: Grant


class Authenticator:
    """The token cache of one worker."""

    __slots__ = ("_commit", "_entries", "_generation", "_size")

    def __init__(self) -> None:
        self._entries: dict[bytes, Verified] = {}
        self._size = 0  # bytes
        self._generation = -1
        self._commit = -1

    def verify(self, snapshot: Reader, token: bytes | None) -> Verified:
        """What a token grants now. Raises Unauthorized, without telling which check failed."""
        if not token:
            raise Unauthorized("The request you have made requires authentication.", code="no_token")
        commit = snapshot.commit()
        if commit != self._commit:  # PERF: nothing at all has changed since, so identity has not
            self._commit = commit
            generation = snapshot.identity_generation()
            if generation != self._generation:
                self._entries.clear()
                self._size = 0
                self._generation = generation
        now_us = time.time_ns() // 1000
        found = self._entries.get(token)
        if found is None:
            facts = unseal(token_key(snapshot), token.decode("latin-1"))
            found = Verified(facts, resolve(snapshot, facts, now_us))
            self._remember(token, found)
        if found.grant.expires_at_us <= now_us:
            raise Unauthorized("The request you have made requires authentication.", code="expired_token")
        return found

    def _remember(self, token: bytes, verified: Verified) -> None:
        self._entries[token] = verified
        self._size += _size(verified)
        if self._size > CACHE_BYTES_MAX:
            for old in list(self._entries)[: (len(self._entries) + 1) // 2]:
                self._size -= _size(self._entries.pop(old))


def _size(verified: Verified) -> int:
    return TOKEN_BYTES + ROLE_BYTES * len(verified.grant.role_records)
