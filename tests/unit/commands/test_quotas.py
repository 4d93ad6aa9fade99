"""Compute limits of a project, beside the network's in the same record."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nova_fast.commands import quotas as commands
from nova_fast.commands.usage import take
from nova_fast.model.commands.quotas import ResetComputeQuota, SetComputeQuota
from nova_fast.model.errors import BadRequest, OverQuota
from nova_fast.model.identity import Caller, Project
from nova_fast.model.quotas import Quota
from nova_fast.queries import quotas
from nova_fast.state import schema as tables
from nova_fast.state.testing import MemoryStore, memory_store

ADMIN = Caller(user_id="a", project_id="p", roles=("admin",))


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    with memory_store() as made:
        project = Project(id="p1", domain_id="default", name="p1", parent_id="default")
        made.run(lambda tx: tx.put(tables.PROJECTS, project))
        yield made


def set_limits(store: MemoryStore, force: bool = False, **limits: int) -> None:
    request = SetComputeQuota(caller=ADMIN, project_id="p1", limits=limits, force=force)
    store.run(lambda tx: commands.set_compute_quota(tx, request))


def test_a_limit_that_is_set_is_the_one_that_is_kept(store: MemoryStore) -> None:
    set_limits(store, cores=2)
    with pytest.raises(OverQuota):
        store.run(lambda tx: take(tx, "p1", cores=3))
    set_limits(store, cores=-1)
    store.run(lambda tx: take(tx, "p1", cores=3000))


def test_a_limit_below_what_is_used_needs_force(store: MemoryStore) -> None:
    store.run(lambda tx: take(tx, "p1", instances=4))
    with pytest.raises(BadRequest):
        set_limits(store, instances=3)
    set_limits(store, instances=3, force=True)
    set_limits(store, instances=4)
    set_limits(store, instances=-1)


@pytest.mark.parametrize("limits", [{"cores": -2}, {"cores": 1 << 31}, {"network": 5}, {"nothing": 5}])
def test_a_limit_that_cannot_be_is_refused(store: MemoryStore, limits: dict[str, int]) -> None:
    with pytest.raises(BadRequest):
        set_limits(store, **limits)
    assert store.read(lambda reader: reader.get(tables.QUOTAS, "p1")) is None


def test_network_limits_stay_when_compute_limits_are_set_and_reset(store: MemoryStore) -> None:
    store.run(lambda tx: tx.put(tables.QUOTAS, Quota(project_id="p1", limits={"network": 7})))
    set_limits(store, cores=5)
    assert store.read(lambda reader: quotas.limits(reader, "p1"))["network"] == 7
    reset = ResetComputeQuota(caller=ADMIN, project_id="p1")
    store.run(lambda tx: commands.reset_compute_quota(tx, reset))
    limits = store.read(lambda reader: quotas.limits(reader, "p1"))
    assert (limits["cores"], limits["network"]) == (20, 7)
    store.run(lambda tx: commands.reset_compute_quota(tx, reset))


def test_resetting_the_only_limits_leaves_no_record(store: MemoryStore) -> None:
    set_limits(store, cores=5)
    reset = ResetComputeQuota(caller=ADMIN, project_id="p1")
    store.run(lambda tx: commands.reset_compute_quota(tx, reset))
    assert store.read(lambda reader: reader.get(tables.QUOTAS, "p1")) is None
