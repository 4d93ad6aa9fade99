"""Hosts that tell the metrics that are weighed."""

from __future__ import annotations

from nova_fast.config import SchedulerConfig
from tests.unit.scheduler.filters.asking import host, lets_pass, request


def test_a_host_must_tell_every_metric_that_is_weighed() -> None:
    options = SchedulerConfig(enabled_filters=("MetricsFilter",), metrics_weight_setting=("a=1", "b=0"))
    assert lets_pass("MetricsFilter", host(metrics={"a": 1, "b": 2, "c": 3}), request(), options=options)
    assert not lets_pass("MetricsFilter", host(metrics={"a": 1}), request(), options=options)
    assert lets_pass("MetricsFilter", host(), request())
