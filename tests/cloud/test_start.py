"""A large cloud starts as a small one does: what is in the store does not decide when it serves.

``python -m bench start`` does the same with 100,000 servers and 10,000 hosts.
"""

from __future__ import annotations

import pytest

from bench.bench_start import filled, start
from bench.cloud import running_cloud
from tests.lengths import repeats

pytestmark = [pytest.mark.slow, pytest.mark.torture]

LIMIT_S = 5.0  # what is promised for 100,000 servers
TRIES = 3  # the machine may be busy with other things


def test_a_cloud_with_many_servers_serves_and_places_within_seconds() -> None:
    servers, hosts = repeats(20_000, 100_000), repeats(2_000, 10_000)
    with running_cloud() as (cloud, _):
        create = filled(cloud, hosts, servers)
        took: list[tuple[float, float]] = []
        for _ in range(TRIES):
            started = start(cloud, create)
            took.append((started.first_answer_s, started.first_placement_s))
            if max(took[-1]) < LIMIT_S:
                break
            cloud.nova_fast("down")
        assert max(min(took)) < LIMIT_S, took
        cloud.nova_fast("check")  # ends with 1, and so fails here, when anything does not agree
