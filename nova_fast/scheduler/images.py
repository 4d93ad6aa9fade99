"""Images: how many servers of each host have an image with each property, for ImagePropertiesWeigher.

Kept only where that weigher's multiplier is not 0. A choice counts at once, as everything else that is pending does, so
servers of one request gather (or scatter) by their image as well. What a server was given back without (an event of an
older release) stays counted until the scheduler starts again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache

from nova_fast.scheduler.image_properties import property_texts

Texts = frozenset[tuple[str, str]]
_NONE: Mapping[tuple[str, str], int] = {}


class Images:
    """Counts by host."""

    def __init__(self, on: bool) -> None:
        self.on = on
        self._by_host: dict[str, Counter[tuple[str, str]]] = {}
        self._pending: dict[str, tuple[str, dict[str, str]]] = {}  # by server: where, and its image's properties

    def of(self, host: str) -> Mapping[tuple[str, str], int]:
        """(name, text of the value) → servers on a host whose image has it."""
        return self._by_host.get(host, _NONE)

    def clear(self) -> None:
        """Forget everything."""
        self._by_host, self._pending = {}, {}

    def add(self, placed: Iterable[tuple[str, dict[str, str]]]) -> None:
        """Servers that are placed, by host: all that a snapshot has."""
        for host, properties in placed:
            self._add(host, texts_of(properties), 1)

    def choose(self, server_id: str, host: str, properties: dict[str, str]) -> None:
        """A host was chosen for a server."""
        if self.on:
            self.give_up(server_id)
            self._pending[server_id] = host, properties
            self._add(host, texts_of(properties), 1)

    def give_up(self, server_id: str) -> None:
        """A choice is not to be committed any more, or has been: then it counts as that."""
        held = self._pending.pop(server_id, None)
        if held is not None:
            self._add(held[0], texts_of(held[1]), -1)

    def commit(self, server_id: str, host: str, properties: dict[str, str]) -> None:
        """A server is placed."""
        if self.on:
            self.give_up(server_id)
            self._add(host, texts_of(properties), 1)

    def give_back(self, host: str, properties: dict[str, str]) -> None:
        """A server that was placed is gone."""
        if self.on:
            self._add(host, texts_of(properties), -1)

    def chosen(self, server_id: str) -> dict[str, str]:
        """The properties by which a pending choice counts, to tell it again."""
        held = self._pending.get(server_id)
        return {} if held is None else held[1]

    def forget_host(self, host: str) -> None:
        """A host is gone."""
        self._by_host.pop(host, None)

    def _add(self, host: str, texts: Texts, sign: int) -> None:
        counts = self._by_host.setdefault(host, Counter())
        for text in texts:
            counts[text] += sign
            if counts[text] <= 0:
                del counts[text]


def texts_of(properties: dict[str, str]) -> Texts:
    """What the weigher counts of an image; a cloud has few images with many servers each."""
    return _texts_of(frozenset(properties.items()))


@lru_cache(maxsize=4096)
def _texts_of(properties: frozenset[tuple[str, str]]) -> Texts:
    return property_texts(dict(properties))
