"""Sealing, opening, and what a token grants as the store changes under it."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_fast.identity.throttle import FAILURES_MAX, NAMES_MAX, WINDOW_S, Throttle
from nova_fast.identity.tokens import TOKEN_CHARACTERS_MAX, TokenFacts, new_audit_id, seal, unseal
from nova_fast.model.errors import Unauthorized

KEY = bytes(range(32))
HEX = st.binary(min_size=16, max_size=16).map(bytes.hex)
IDS = HEX | st.just("default") | st.text(max_size=20)
AUDIT = st.binary(min_size=16, max_size=16).map(lambda _: new_audit_id())
METHODS = st.lists(st.sampled_from(["password", "token", "application_credential"]), min_size=1, unique=True)


@st.composite
def facts(draw: st.DrawFn) -> TokenFacts:
    order = ["password", "token", "application_credential"]
    return TokenFacts(
        user_id=draw(HEX),
        methods=tuple(sorted(draw(METHODS), key=order.index)),
        scope_type=draw(st.sampled_from(["", "project", "domain", "system"])),
        scope_id=draw(IDS),
        issued_at_us=draw(st.integers(0, 1 << 52)),
        expires_at_us=draw(st.integers(0, 1 << 52)),
        audit_id=draw(AUDIT),
        parent_audit_id=draw(st.just("") | AUDIT),
        credential_id=draw(st.just("") | HEX),
    )


@given(facts())
def test_what_was_sealed_comes_out_and_fits_a_header(what: TokenFacts) -> None:
    token = seal(KEY, what)
    assert len(token) < TOKEN_CHARACTERS_MAX
    assert token.isascii() and token.replace("-", "").replace("_", "").isalnum()
    assert unseal(KEY, token) == what


@given(facts(), st.data())
def test_any_changed_character_voids_a_token(what: TokenFacts, data: st.DataObject) -> None:
    token = seal(KEY, what)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("ABCxyz019-_").filter(lambda c: c != token[place]))
    changed = token[:place] + other + token[place + 1 :]
    try:
        assert unseal(KEY, changed) == what  # only the unused bits of the last character may differ
        assert place == len(token) - 1
    except Unauthorized:
        pass


@given(st.text(max_size=300) | st.binary(max_size=200).map(lambda b: b.decode("latin-1")))
def test_junk_is_unauthorized_and_nothing_else(junk: str) -> None:
    with pytest.raises(Unauthorized):
        unseal(KEY, junk)


def test_another_key_does_not_open_a_token() -> None:
    what = TokenFacts(
        user_id="a" * 32, methods=("password",), scope_type="", scope_id="", issued_at_us=1, expires_at_us=2,
        audit_id=new_audit_id(),
    )  # fmt: skip
    with pytest.raises(Unauthorized):
        unseal(os.urandom(32), seal(KEY, what))


def test_ten_failures_in_a_minute_lock_a_name_for_as_long_as_they_are_recent() -> None:
    now = [0.0]
    throttle = Throttle(lambda: now[0])
    for _ in range(FAILURES_MAX):
        assert not throttle.refuses("a")
        throttle.failed("a")
        now[0] += 1
    assert throttle.refuses("a")
    assert not throttle.refuses("b")
    now[0] = WINDOW_S + 0.5
    assert not throttle.refuses("a")


def test_a_success_forgets_the_failures() -> None:
    throttle = Throttle(lambda: 0.0)
    for _ in range(FAILURES_MAX):
        throttle.failed("a")
    throttle.succeeded("a")
    assert not throttle.refuses("a")


def test_the_memory_of_failures_is_bounded() -> None:
    throttle = Throttle(lambda: 0.0)
    for number in range(NAMES_MAX + 50):
        throttle.failed(str(number))
    assert len(throttle._failures) == NAMES_MAX
