"""A random generator with the words that the generator of cases speaks in."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


class Dice(random.Random):
    """All chance of a case, from its seed."""

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def some(self, items: Iterable[Item], probability: float) -> list[Item]:
        """Each item with this probability."""
        return [item for item in items if self.chance(probability)]

    def few(self, items: Sequence[Item], most: int) -> list[Item]:
        """Up to ``most`` different items, in any order."""
        return self.sample(items, self.randint(0, min(most, len(items))))

    def mostly(self, usual: Item, others: Sequence[Item], probability: float = 0.15) -> Item:
        """The usual one, but sometimes one of the others."""
        return self.choice(others) if self.chance(probability) else usual

    def uuid(self) -> str:
        digits = f"{self.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"
