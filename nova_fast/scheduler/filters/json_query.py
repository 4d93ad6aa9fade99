"""JsonFilter: the hint ``query``, an expression in JSON that a user writes over a host's attributes.

``["and", [">=", "$free_ram_mb", 1024], ["=", "$hypervisor_type", "QEMU"]]``: a list is an operator and its arguments,
``$name`` an attribute, ``$name.key`` a value in it. Operators: ``=``, ``<``, ``>``, ``<=``, ``>=`` (the first argument
against each other one), ``in`` (the first is among the others), ``not``, ``or``, ``and``. An attribute that a host does
not have is left out of the arguments, and a comparison of fewer than two arguments is false.

As in Nova ``not`` flips each of its arguments and gives a list, which counts as true inside another expression unless
it is empty, and at the top when one of it is true. A host on which something cannot be compared (a number with a text)
does not pass.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable
from typing import Any

from nova_fast.model.errors import BadRequest
from nova_fast.model.tasks import PlacementRequest
from nova_fast.scheduler.facts import HostState, hint
from nova_fast.scheduler.filters.attributes import attribute
from nova_fast.scheduler.filters.kinds import Judge, StateFilter

_FIELD = "os:scheduler_hints.query"


def _against_each(compare: Callable[[Any, Any], bool]) -> Callable[[list[Any]], bool]:
    def compared(arguments: list[Any]) -> bool:
        return len(arguments) > 1 and all(compare(arguments[0], other) for other in arguments[1:])

    return compared


_OPERATORS: dict[str, Callable[[list[Any]], Any]] = {
    "=": _against_each(operator.eq),
    "<": _against_each(operator.lt),
    ">": _against_each(operator.gt),
    "<=": _against_each(operator.le),
    ">=": _against_each(operator.ge),
    "in": lambda arguments: len(arguments) > 1 and arguments[0] in arguments[1:],
    "not": lambda arguments: [not argument for argument in arguments],
    "or": any,
    "and": all,
}


class Json(StateFilter):
    """The hint ``query``."""

    name = "JsonFilter"

    def applies(self, request: PlacementRequest) -> bool:
        return bool(hint(request, "query"))

    def passes(self, state: HostState, request: PlacementRequest) -> bool:
        return self.judge(request)(state)

    def judge(self, request: PlacementRequest) -> Judge:
        query = _read(hint(request, "query"))

        def passes(state: HostState) -> bool:
            try:
                result = _value(query, state)
            except TypeError:  # a number against a text
                return False
            return any(result) if isinstance(result, list) else bool(result)

        return passes


def _read(text: str | list[str] | None) -> list[Any]:
    """The expression of a hint. Raises BadRequest when it is none."""
    try:
        query = (json.loads(text) or []) if isinstance(text, str) else None  # Nova: nothing in any form passes
    except ValueError as e:
        raise BadRequest(f"The hint query is no JSON: {e}.", field=_FIELD) from e
    if not isinstance(query, list):
        raise BadRequest("The hint query is no list.", field=_FIELD, hint='like [">=", "$free_ram_mb", 1024]')
    _check(query)
    return query


def _check(query: list[Any]) -> None:
    if query and (not isinstance(query[0], str) or query[0] not in _OPERATORS):
        raise BadRequest(
            f"The hint query has no operator {query[0]!r}.", field=_FIELD, hint=f"one of {' '.join(_OPERATORS)}"
        )
    for argument in query[1:]:
        if isinstance(argument, list):
            _check(argument)


def _value(query: list[Any], state: HostState) -> Any:
    if not query:
        return True
    arguments = [_argument(argument, state) for argument in query[1:]]
    return _OPERATORS[query[0]]([argument for argument in arguments if argument is not None])


def _argument(argument: Any, state: HostState) -> Any:
    if isinstance(argument, list):
        return _value(argument, state)
    if not isinstance(argument, str):
        return argument
    if not argument.startswith("$"):
        return argument or None
    name, *path = argument[1:].split(".")
    value = attribute(state, name)
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value
