"""A stream of single requests over a fleet: what ``bench_scheduler`` and its peers decide.

Each decision is one ``SelectHosts`` message, then the Claimed event of its commit, then the Released event of a server
placed a while before, so the fleet stays as full as it was.
"""

from __future__ import annotations

import random
import time
from collections import deque

from nova_fast.model.events import Claimed, Released
from nova_fast.model.hosts import Claim, Host, HostResources, HostUsage
from nova_fast.model.tasks import PlacementRequest, SelectHosts
from nova_fast.scheduler.select import Scheduler

WARM_UP = 200  # decisions before the clock starts
LIVING = 1_000  # servers between their commit and their release

MODELS = ((32, 128 * 1024, 2_000), (64, 256 * 1024, 4_000), (128, 1024 * 1024, 8_000))  # vCPUs, MiB, GiB
FLAVORS = tuple(Claim(vcpus=1 << n, ram_mib=(512 << n) * m, disk_gib=20 * m) for n in range(5) for m in (1, 2, 4, 8))


def fleet(count: int, rng: random.Random) -> list[tuple[Host, HostUsage]]:
    """Hosts in service with a usage of around two thirds."""
    hosts = []
    for number in range(count):
        vcpus, ram_mib, disk_gib = rng.choice(MODELS)
        resources = HostResources(
            vcpus=vcpus,
            ram_mib=ram_mib,
            disk_gib=disk_gib,
            architecture="x86_64",
            hypervisor_type="fake",
            hypervisor_version=1,
            virt_type="kvm",
        )
        name = f"host{number:06}"
        host = Host(
            name=name,
            uuid=name,
            service_uuid=name,
            number=number,
            zone=f"zone{number % 3}",
            resources=resources,
            created_at_us=0,
            reported_at_us=0,
        )
        full = rng.uniform(0.4, 0.9)
        usage = HostUsage(
            host=name,
            vcpus=int(vcpus * 4 * full),
            ram_mib=int((ram_mib - 512) * full),
            disk_gib=int(disk_gib * full),
            servers=int(vcpus * full),
        )
        hosts.append((host, usage))
    return hosts


def decide(scheduler: Scheduler, count: int, rng: random.Random, seconds: float) -> tuple[int, float]:
    """Run decisions, at most so many and for so long; returns how many, and the seconds they took."""
    messages = [
        SelectHosts(
            requests=(
                PlacementRequest(
                    server_id=f"server-{number}",
                    claim=rng.choice(FLAVORS),
                    zone=rng.choice(("", f"zone{rng.randrange(3)}")),
                    architecture="x86_64",
                ),
            )
        )
        for number in range(count)
    ]
    living: deque[Claimed] = deque()
    done, started = 0, 0.0
    for message in messages:
        if done == WARM_UP:
            started = time.perf_counter()
        (request,) = message.requests
        (placement,) = scheduler.select(message).placements
        if not placement.host:
            raise SystemExit(f"{request} was refused: {placement.hint}")
        event = Claimed(server_id=request.server_id, host=placement.host, claim=request.claim)
        scheduler.apply(event)
        living.append(event)
        if len(living) > LIVING:
            old = living.popleft()
            scheduler.apply(Released(server_id=old.server_id, host=old.host, claim=old.claim))
        done += 1
        if done > WARM_UP and done % 64 == 0 and time.perf_counter() - started > seconds:
            break
    return done - WARM_UP, time.perf_counter() - started
