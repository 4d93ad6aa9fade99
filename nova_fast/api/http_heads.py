"""Header blocks that were parsed before: a client sends the same one with every request, but for the request line.

SAFETY: a block is looked up as a whole and by its bytes, and what is kept of it is only how it divides into headers;
what they mean (who asks, and whether he still may) is asked anew each time. It is used only behind a request line of
the plainest form, at a place where the parser expects a new request, and only if the parser has found it, behind such a
line, to be all of a request that has no body and leaves the connection open. So the parser would find the same again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

#: Bytes of all blocks together, with what is made of them.
BYTES_MAX = 8 << 20
BLOCK_BYTES_MAX = 4096
HEADER_BYTES = 250  # what a header costs beside its bytes
#: A request that the parser could read in one way only, and whose path needs no decoding.
PLAIN_LINE = re.compile(rb"GET ((?:/[A-Za-z0-9_.\-]+)+)(?:\?([A-Za-z0-9_.\-=&]*))? HTTP/1\.1")
#: Headers that say how a request ends, or what becomes of its connection.
_OF_THE_CONNECTION = frozenset(
    {
        b"transfer-encoding",
        b"connection",
        b"proxy-connection",
        b"upgrade",
        b"expect",
        b"trailer",
        b"te",
    }
)


class Head(NamedTuple):
    """The headers of a request."""

    listed: list[tuple[bytes, bytes]]
    named: dict[bytes, bytes]


def plain_head(listed: list[tuple[bytes, bytes]]) -> Head | None:
    """Headers of which each is given once, and none says anything of the connection; None for others."""
    named = dict(listed)
    if len(named) != len(listed) or not _OF_THE_CONNECTION.isdisjoint(named):
        return None
    return Head(listed, named)


class Heads:
    """The blocks that one worker keeps."""

    def __init__(self) -> None:
        self._heads: dict[bytes, Head] = {}
        self.get = self._heads.get  # PERF: asked with every request
        self.size = 0

    def learn(self, block: bytes, head: Head) -> None:
        """Keep a block, unless it is long."""
        if len(block) > BLOCK_BYTES_MAX or block in self._heads:
            return
        self._heads[block] = head
        self.size += _size(block, head)
        if self.size > BYTES_MAX:
            self._forget(list(islice(self._heads, (len(self._heads) + 1) // 2)))

    def _forget(self, blocks: Iterable[bytes]) -> None:
        for block in blocks:
            self.size -= _size(block, self._heads.pop(block))


def _size(block: bytes, head: Head) -> int:
    return 3 * len(block) + HEADER_BYTES * len(head.listed)
