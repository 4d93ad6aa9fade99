"""The little language of extra specs: an operator and what a value is compared with.

A value without an operator is compared as a text. Numbers: ``=`` (at least), ``==``, ``!=``, ``>=``, ``<=``; texts:
``s==``, ``s!=``, ``s<``, ``s<=``, ``s>``, ``s>=``; ``<in>`` a part; ``<all-in>`` all parts; ``<or> a <or> b`` one of
these (nova.scheduler.filters.extra_specs_ops). What should be a number and is none does not match.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

_NUMBERS: dict[str, Callable[[float, float], bool]] = {
    "=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
}
_TEXTS: dict[str, Callable[[str, str], bool]] = {
    "s==": operator.eq,
    "s!=": operator.ne,
    "s<": operator.lt,
    "s<=": operator.le,
    "s>": operator.gt,
    "s>=": operator.ge,
    "<in>": operator.contains,
}


def matches(value: str, wanted: str) -> bool:
    """Whether a value of the host is what an extra spec wants."""
    first, *words = wanted.split() or [""]
    if first == "<or>":
        return value in words[::2]
    if first == "<all-in>":
        return bool(words) and all(word in value for word in words)
    if first in _TEXTS:
        return bool(words) and _TEXTS[first](value, words[0])
    if first in _NUMBERS:
        return bool(words) and _compare_numbers(first, value, words[0])
    return value == wanted


def _compare_numbers(name: str, value: str, wanted: str) -> bool:
    try:
        return _NUMBERS[name](float(value), float(wanted))
    except ValueError:
        return False
