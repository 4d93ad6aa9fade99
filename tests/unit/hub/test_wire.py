"""Frames and contracts."""

from __future__ import annotations

import inspect
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_fast.hub import contracts, wire
from nova_fast.model import tasks
from nova_fast.model.base import Message
from nova_fast.model.errors import Failure


@given(st.sampled_from(sorted(wire.KINDS)), st.binary(min_size=16, max_size=16), st.integers(0, 2**64 - 1), st.binary())
def test_what_is_packed_is_parsed(kind: int, call_id: bytes, deadline_us: int, body: bytes) -> None:
    parsed = wire.parse(wire.pack(kind, call_id, deadline_us, body))
    assert parsed is not None
    assert parsed == (kind, call_id, deadline_us, body)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(frame: bytes) -> None:
    parsed = wire.parse(frame)
    if parsed is not None:
        assert frame[0] == wire.VERSION and parsed[0] in wire.KINDS


def test_every_task_message_may_travel() -> None:
    travels = {
        *contracts.PEER_TO_HUB,
        *contracts.PEER_TO_HUB_REPLIES,
        *contracts.HUB_TO_PEER,
        *contracts.HUB_TO_PEER_REPLIES,
    }
    messages = {
        kind
        for _, kind in inspect.getmembers(tasks, inspect.isclass)
        if issubclass(kind, Message) and kind is not Message
    }
    assert messages - travels <= {tasks.Placement}  # travels inside a Selection
    assert Failure in contracts.PEER_TO_HUB_REPLIES and Failure in contracts.HUB_TO_PEER_REPLIES


def test_a_direction_reads_only_what_belongs_to_it() -> None:
    console = contracts.ENCODER.encode(tasks.ReadConsole(server_id="s", domain_name="d"))
    assert contracts.PEER_DECODER.decode(console) == tasks.ReadConsole(server_id="s", domain_name="d")
    with pytest.raises(Exception, match="ReadConsole"):
        contracts.HUB_DECODER.decode(console)


@pytest.mark.parametrize("name", ["scheduler", "api.0", "compute@host1", "network@host-1.example.com"])
def test_names_of_daemons_are_valid(name: str) -> None:
    assert wire.valid_name(name)


@pytest.mark.parametrize("name", ["", "a b", "@h", "compute@", "compute@a@b", "../x", "x" * 300, "api.0\n", "É"])
def test_other_names_are_not(name: str) -> None:
    assert not wire.valid_name(name)


def test_call_ids_never_repeat() -> None:
    ids = wire.CallIds(os.urandom)
    other = wire.CallIds(os.urandom)
    assert len({ids.next() for _ in range(1000)} | {other.next() for _ in range(1000)}) == 2000
