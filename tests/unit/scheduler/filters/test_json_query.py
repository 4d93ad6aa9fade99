"""Queries in JSON over a host's attributes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nova_fast.model.errors import BadRequest
from tests.unit.scheduler.filters.asking import facts, host, lets_pass, request

STATE = host(
    facts(hypervisor_type="QEMU", hypervisor_version=8000000),
    ram_free_mib=2048,
    vcpus_used=3,
    servers=2,
    enabled=False,
    host_ip="10.0.0.1",
)


def passes(query: Any) -> bool:
    return lets_pass("JsonFilter", STATE, request(hints={"query": json.dumps(query)}))


@pytest.mark.parametrize(
    ("query", "fits"),
    [
        ([], True),
        ({}, True),
        (["=", "$vcpus_used", 3], True),
        (["=", "$vcpus_used", 3, 4], False),
        ([">", "$free_ram_mb", 1024, 2047], True),
        (["<", "$free_ram_mb", 2048], False),
        (["<=", "$free_ram_mb", 2048], True),
        ([">=", "$free_ram_mb", 2049], False),
        (["in", "$hypervisor_type", "KVM", "QEMU"], True),
        (["in", "$hypervisor_type"], False),
        (["=", "$nothing", 1], False),
        (["=", "$nothing.more", "$nothing"], False),
        (["=", "$service.disabled", True], True),
        (["=", "$stats.num_instances", "2"], True),
        (["=", "$stats.num_instances", 2], False),  # a text, as in Nova
        (["=", "$host_ip", "10.0.0.1"], False),  # no text, as in Nova
        (["<", "$hypervisor_type", 3], False),
        (["not", ["<", "$hypervisor_type", 3]], False),  # no comparison, no answer
        (["not", ["=", "$vcpus_used", 4]], True),
        (["not", ["=", "$vcpus_used", 3]], False),
        (["not", ["=", "$vcpus_used", 3], ["=", "$vcpus_used", 4]], True),  # any of the flipped
        (["and", ["not", ["=", "$vcpus_used", 3]]], True),  # Nova: a list that is not empty is true
        (["or", ["=", "$vcpus_used", 4], ["=", "$vcpus_used", 3]], True),
        (["or"], False),
        (["and"], True),
        (["and", []], True),
        (["and", True, 0], False),
        (["=", "", "x"], False),
    ],
)
def test_a_query_says_which_hosts_pass(query: Any, fits: bool) -> None:
    assert passes(query) is fits


@pytest.mark.parametrize("query", ["[", '{"a": 1}', "17", '["xor", 1]', '["and", ["near", 1]]', '[["="], 1]'])
def test_what_is_no_query_is_refused(query: str) -> None:
    with pytest.raises(BadRequest) as refused:
        lets_pass("JsonFilter", STATE, request(hints={"query": query}))
    assert refused.value.field == "os:scheduler_hints.query"


def test_without_the_hint_every_host_passes() -> None:
    assert lets_pass("JsonFilter", STATE, request())
