"""Filters of a host's own columns."""

from __future__ import annotations

import pytest

from nova_fast.config import SchedulerConfig
from tests.unit.scheduler.filters.asking import facts, host, lets_pass, request


def test_all_hosts_pass_the_all_hosts_filter() -> None:
    assert lets_pass("AllHostsFilter", host(up=False, enabled=False), request())


@pytest.mark.parametrize(
    ("up", "enabled", "fits"), [(True, True, True), (False, True, False), (True, False, False), (False, False, False)]
)
def test_a_host_must_be_up_and_enabled(up: bool, enabled: bool, fits: bool) -> None:
    assert lets_pass("ComputeFilter", host(up=up, enabled=enabled), request()) is fits


@pytest.mark.parametrize(
    ("name", "column", "key"),
    [
        ("IoOpsFilter", "io_ops", ""),
        ("AggregateIoOpsFilter", "io_ops", "max_io_ops_per_host"),
        ("NumInstancesFilter", "servers", ""),
        ("AggregateNumInstancesFilter", "servers", "max_instances_per_host"),
    ],
)
def test_a_host_passes_while_it_is_below_its_limit(name: str, column: str, key: str) -> None:
    options = SchedulerConfig(enabled_filters=(name,), max_io_ops_per_host=4, max_instances_per_host=4)

    def limit(*values: str) -> int:
        of = facts(*({key or "max_io_ops_per_host": value} for value in values))
        return next(
            count for count in range(99) if not lets_pass(name, host(of, **{column: count}), request(), options=options)
        )

    assert limit() == 4
    assert limit("2") == (2 if key else 4)
    assert limit("7", "3") == (3 if key else 4)
    assert limit("7", "many") == 4
    assert limit("7") == (7 if key else 4)
    assert limit("0") == (0 if key else 4)
