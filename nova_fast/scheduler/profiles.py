"""Profiles: small numbers for the facts that hosts share, a column of the table.

A number stays with its facts for as long as any host has them, so a class of requests keeps an array of verdicts by
number and judges only the numbers that are new. What nobody has any more is kept too, because the same facts often come
back (a host that is moved between aggregates and returned).
"""

from __future__ import annotations

from collections.abc import Iterator

from nova_fast.scheduler.facts import HostFacts


class Profiles:
    """Facts by number, in the order in which they were first seen."""

    def __init__(self) -> None:
        self._numbers: dict[HostFacts, int] = {}
        self._facts: list[HostFacts] = []
        self._hosts: list[int] = []  # how many hosts have each

    def __len__(self) -> int:
        return len(self._facts)

    def __iter__(self) -> Iterator[HostFacts]:
        return iter(self._facts)

    def __getitem__(self, number: int) -> HostFacts:
        return self._facts[number]

    def hosts(self, number: int) -> int:
        """How many hosts have a profile."""
        return self._hosts[number]

    def take(self, facts: HostFacts) -> int:
        """The number of a host's facts, a new one if nobody had them yet."""
        number = self._numbers.setdefault(facts, len(self._facts))
        if number == len(self._facts):
            self._facts.append(facts)
            self._hosts.append(0)
        self._hosts[number] += 1
        return number

    def take_again(self, number: int) -> None:
        """A host has the facts of a profile that is known."""
        self._hosts[number] += 1

    def give_back(self, number: int) -> None:
        """A host that had this profile has another one, or is gone."""
        assert self._hosts[number] > 0, f"profile {number} has no host"
        self._hosts[number] -= 1
