"""The kinds of filter, by what a filter has to look at.

========  =============================================================  =============================================
kind      asked                                                          cost
========  =============================================================  =============================================
column    the table itself                                               nothing per host
facts     ``passes(facts, request)``, once for each profile              nothing per host
limit     ``limit(facts)``, once for each profile                        nothing per host
rows      ``rows(fleet, request)``, once for each request                one full pass of the kernel
state     ``passes(state, request)`` for each host that is left          microseconds for each host
========  =============================================================  =============================================

All are made once, with the options, and keep nothing of a request. A filter that needs two kinds is two classes of one
name.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Set
from typing import ClassVar, Literal, NamedTuple

from nova_fast.config import SchedulerConfig
from nova_fast.model.tasks import PlacementRequest
from nova_fast.scheduler.facts import Fleet, HostFacts, HostState


class Only(NamedTuple):
    """No other hosts pass."""

    names: Set[str]


class Without(NamedTuple):
    """These hosts do not pass."""

    names: Set[str]


Rows = Only | Without
Judge = Callable[[HostState], bool]
FactsJudge = Callable[[HostFacts], bool]


class Filter:
    """What all kinds have in common."""

    name: ClassVar[str]  # Nova's, as in enabled_filters and in a refusal

    def __init__(self, options: SchedulerConfig) -> None:
        self.options = options


class ColumnFilter(Filter):
    """What the table decides by its own columns; ``passes`` says what it must decide."""

    def passes(self, state: HostState, request: PlacementRequest) -> bool:
        raise NotImplementedError


class FactsFilter(Filter):
    """Looks at facts alone."""

    def key(self, request: PlacementRequest) -> Hashable:
        """All that ``passes`` looks at in a request; None when it lets every host pass.

        Requests with equal keys share the verdicts, so the smaller a key the better. It must not look at what is the
        server's alone: its id and group, the host it asks for and the hosts it excludes.
        """
        raise NotImplementedError

    def passes(self, facts: HostFacts, request: PlacementRequest) -> bool:
        """Whether hosts with these facts may have the server; asked only when the key is not None."""
        raise NotImplementedError

    def judge(self, request: PlacementRequest) -> FactsJudge:
        """``passes`` for one request and many profiles; a filter that has something to prepare does it here, once."""
        return lambda facts: self.passes(facts, request)


class LimitFilter(Filter):
    """A host passes while a column is below a limit, which may depend on its facts."""

    column: ClassVar[Literal["io_ops", "servers"]]

    def limit(self, facts: HostFacts) -> int:
        """The first value of the column that does not pass."""
        raise NotImplementedError


class RowsFilter(Filter):
    """Names hosts."""

    of_the_server: ClassVar[bool] = False  # ``applies`` looks at its group, the host it asks for or those it excludes

    def applies(self, request: PlacementRequest) -> bool:
        """False when ``rows`` is None for this request whatever the fleet; cheap."""
        raise NotImplementedError

    def rows(self, fleet: Fleet, request: PlacementRequest) -> Rows | None:
        """Which hosts alone pass, or which do not; None when every host passes; asked only when it applies.

        Raises BadRequest when the request makes no sense.
        """
        raise NotImplementedError


class StateFilter(Filter):
    """Looks at each host that all other filters have left: slow."""

    def applies(self, request: PlacementRequest) -> bool:
        """False when every host passes. It must not look at what is the server's alone, like a key."""
        return True

    def passes(self, state: HostState, request: PlacementRequest) -> bool:
        raise NotImplementedError

    def judge(self, request: PlacementRequest) -> Judge:
        """``passes`` for one request; a filter that has something to prepare does it here, once.

        Raises BadRequest when the request makes no sense.
        """
        return lambda state: self.passes(state, request)


def smallest_count(texts: set[str], default: int) -> int:
    """The smallest of some whole numbers; the default when there is none, or one of them is none."""
    try:
        return min(map(int, texts), default=default)
    except ValueError:
        return default
