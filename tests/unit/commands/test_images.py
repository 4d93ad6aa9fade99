"""The life of an image's record: uploads that end well, badly, or meet a deletion; patches that are all or none."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from nova_fast.commands import registry
from nova_fast.model.base import Message
from nova_fast.model.commands.images import (
    AbortUpload,
    AddImageMember,
    BeginUpload,
    CreateImage,
    DeleteImage,
    FinishUpload,
    PatchImage,
    PatchOperation,
)
from nova_fast.model.errors import Conflict, Forbidden, NotFound, OverQuota
from nova_fast.model.identity import Caller
from nova_fast.model.images import Image, ImageStatus, Visibility
from nova_fast.queries import images
from nova_fast.queries.images import ImageFilter
from nova_fast.state.testing import MemoryStore, memory_store

ADMIN = Caller(user_id="a", project_id="admins", roles=("admin", "member"))
ALICE = Caller(user_id="alice", project_id="p1", roles=("member",))
BOB = Caller(user_id="bob", project_id="p2", roles=("member",))

registry.load_all()


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    with memory_store() as made:
        yield made


def run(store: MemoryStore, command: Message) -> Image:
    result = store.run(lambda tx: registry.run(tx, command))
    found: Image = result.image  # type: ignore[attr-defined]
    return found


def make(store: MemoryStore, caller: Caller = ALICE, **fields: object) -> Image:
    return run(store, CreateImage(caller=caller, disk_format="raw", container_format="bare", **fields))  # type: ignore[arg-type]


def finish(image: Image) -> FinishUpload:
    return FinishUpload(caller=ALICE, image_id=image.id, size=3, virtual_size=3, checksum="c", hash_value="h")


def test_an_upload_leads_from_queued_over_saving_to_active(store: MemoryStore) -> None:
    image = make(store)
    assert run(store, BeginUpload(caller=ALICE, image_id=image.id)).status is ImageStatus.SAVING
    assert store.read(images.ids_with_files) == frozenset()
    active = run(store, finish(image))
    assert (active.status, active.size, active.checksum) == (ImageStatus.ACTIVE, 3, "c")
    assert active.updated_at_us > image.updated_at_us
    assert store.read(images.ids_with_files) == {image.id}
    with pytest.raises(Conflict):
        run(store, BeginUpload(caller=ALICE, image_id=image.id))


def test_an_upload_cannot_finish_what_was_aborted_or_deleted(store: MemoryStore) -> None:
    image = make(store)
    run(store, BeginUpload(caller=ALICE, image_id=image.id))
    assert run(store, AbortUpload(caller=ALICE, image_id=image.id)).status is ImageStatus.QUEUED
    with pytest.raises(Conflict):
        run(store, finish(image))
    run(store, DeleteImage(caller=ALICE, image_id=image.id))
    with pytest.raises(NotFound):
        run(store, finish(image))


def test_an_abort_that_comes_too_late_changes_nothing(store: MemoryStore) -> None:
    image = make(store)
    run(store, BeginUpload(caller=ALICE, image_id=image.id))
    run(store, finish(image))
    assert run(store, AbortUpload(caller=ALICE, image_id=image.id)).status is ImageStatus.ACTIVE


def test_a_patch_that_fails_halfway_changes_nothing(store: MemoryStore) -> None:
    image = make(store)
    operations = (
        PatchOperation(op="replace", name="name", value="new"),
        PatchOperation(op="remove", name="nothing"),
    )
    with pytest.raises(Conflict):
        run(store, PatchImage(caller=ALICE, image_id=image.id, operations=operations))
    assert store.read(lambda reader: images.get(reader, image.id, ALICE)) == image


def test_an_image_that_is_no_longer_shared_has_no_members(store: MemoryStore) -> None:
    image = make(store)
    run(store, AddImageMember(caller=ALICE, image_id=image.id, member="p2"))
    assert store.read(lambda reader: images.get(reader, image.id, BOB)).id == image.id
    change = PatchOperation(op="replace", name="visibility", value="private")
    assert run(store, PatchImage(caller=ALICE, image_id=image.id, operations=(change,))).members == {}
    with pytest.raises(NotFound):
        store.read(lambda reader: images.get(reader, image.id, BOB))


def test_members_have_a_bound(store: MemoryStore) -> None:
    image = make(store)
    for number in range(128):
        run(store, AddImageMember(caller=ALICE, image_id=image.id, member=f"p{number + 10}"))
    with pytest.raises(OverQuota):
        run(store, AddImageMember(caller=ALICE, image_id=image.id, member="one-more"))


def test_only_an_admin_makes_images_for_others_or_for_everybody(store: MemoryStore) -> None:
    with pytest.raises(Forbidden):
        make(store, owner="p2")
    with pytest.raises(Forbidden):
        make(store, visibility=Visibility.PUBLIC)
    with pytest.raises(Forbidden):
        make(store, msgspec.structs.replace(ALICE, project_id=""))
    assert make(store, ADMIN, owner="p2", visibility=Visibility.PUBLIC).project_id == "p2"


@pytest.mark.parametrize("sort", [(("created_at", True),), (("name", False),), (("size", True), ("name", False))])
def test_pages_of_any_order_hold_every_image_once(store: MemoryStore, sort: tuple[tuple[str, bool], ...]) -> None:
    made = [make(store, name=f"n{number % 3}").id for number in range(10)]
    found: list[str] = []
    marker = None
    while True:
        wanted = ImageFilter(sort=sort, limit=3, marker=marker)
        page = store.read(lambda reader, wanted=wanted: images.listing(reader, wanted, ALICE))
        if not page:
            break
        found += [image.id for image in page]
        marker = found[-1]
    assert len(found) == 10
    assert set(found) == set(made)
