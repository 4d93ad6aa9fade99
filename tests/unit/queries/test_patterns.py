"""Expressions of users: they find what Python's engine finds, and none takes long."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_fast.model.errors import BadRequest
from nova_fast.queries.patterns import searcher

_ATOMS = st.sampled_from(["a", "b", "-", ".", "[ab]", "[^a]", "[a-c1-3]", r"\d", r"\w", r"\.", "^", "$"])
_TEXTS = st.text(alphabet="abc-1. ", max_size=12)


def _combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.tuples(inner, inner).map("|".join),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", "*?"])).map(
            lambda pair: f"({pair[0]}){pair[1]}"
        ),
    )


@given(st.recursive(_ATOMS, _combined, max_leaves=8), _TEXTS)
def test_it_finds_what_the_other_engine_finds(expression: str, text: str) -> None:
    # the other engine's $ also matches before a last line feed; there is none in these texts
    assert searcher(expression, "name")(text) == (re.search(expression, text) is not None)


@pytest.mark.parametrize("text", ["web", "web-1", "a_b c", "äöü"])
def test_a_plain_name_is_a_part_of_the_name(text: str) -> None:
    assert searcher(text, "name")(f"my {text}!")
    assert not searcher(text, "name")("other")


@pytest.mark.parametrize(
    "expression", ["(a*)*b", "(a|a)*b", "a*a*a*a*a*a*a*a*b", "(a+)+$", "(.*)*x", "(a{0,30}){0,30}b"]
)
def test_no_expression_takes_long(expression: str) -> None:
    started = time.thread_time()
    try:
        assert not searcher(expression, "name")("a" * 254 + "!")
    except BadRequest:
        assert "{" in expression, "only what is too large is refused"
    assert time.thread_time() - started < 2


@pytest.mark.parametrize(
    "expression",
    [
        "(",
        ")",
        "a)",
        "[a",
        "*a",
        "a**",
        "(?=a)",
        r"(a)\1",
        r"\b",
        "\\",
        "[z-a]",
        "a{9,1}",
        "a{999}",
        "((((((" * 10,
        "x" * 256,
    ],
)
def test_what_cannot_be_matched_safely_is_refused_by_name(expression: str) -> None:
    with pytest.raises(BadRequest) as refused:
        searcher(expression, "name")
    assert refused.value.field == "name"
