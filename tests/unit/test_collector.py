"""What is kept and what travels is not the garbage collector's business."""

from __future__ import annotations

import gc

import msgspec
import pytest

from nova_fast.commands import registry
from nova_fast.model.base import Message, Record, Value
from nova_fast.model.hosts import Claim


def subclasses(kind: type) -> list[type]:
    return [found for one in kind.__subclasses__() for found in (one, *subclasses(one))]


@pytest.mark.parametrize("kind", [Record, Message, Value])
def test_no_struct_is_tracked_and_none_could_be_in_a_cycle(kind: type[msgspec.Struct]) -> None:
    registry.load_all()
    found = subclasses(kind)
    assert len(found) > 10
    for one in found:
        assert issubclass(one, msgspec.Struct)
        assert one.__struct_config__.gc is False, one
        assert one.__struct_config__.frozen, one  # what never changes refers to nothing younger than itself


def test_a_claim_with_its_parts_is_not_looked_at() -> None:
    assert not gc.is_tracked(Claim(vcpus=1, ram_mib=1, disk_gib=1))
