"""The order of fields is the format on disk: fields are only ever appended, with a default."""

from __future__ import annotations

import pytest

from tools import record_layout


def test_no_field_was_inserted_removed_or_moved() -> None:
    assert record_layout.violations(record_layout.recorded_layout(), record_layout.present_layout()) == []


def test_every_record_and_field_is_written_down() -> None:
    present, recorded = record_layout.present_layout(), record_layout.recorded_layout()
    assert present == recorded, "run: make record-layout"


@pytest.mark.parametrize(
    ("present", "wrong"),
    [
        ({"a.A": ["x", "y"]}, False),
        ({"a.A": ["x", "y", "z"], "b.B": ["q"]}, False),
        ({"a.A": ["x", "z", "y"]}, True),
        ({"a.A": ["y", "x"]}, True),
        ({"a.A": ["x"]}, True),
        ({}, True),
    ],
)
def test_what_counts_as_a_violation(present: dict[str, list[str]], wrong: bool) -> None:
    assert bool(record_layout.violations({"a.A": ["x", "y"]}, present)) is wrong
