"""``nova-fast check``, ``backup`` and ``restore`` on real stores: what is wrong is told, and changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import pytest

from nova_fast.cli import check
from nova_fast.cli import main as cli
from nova_fast.config import Config
from nova_fast.model.events import HostRemoved
from nova_fast.model.flavors import Flavor
from nova_fast.queries.check.recount import recount
from nova_fast.state import backup as backup_module
from nova_fast.state import replace, schema
from nova_fast.state import schema as tables
from nova_fast.state.backup import HEAD_BYTES, read_manifest, write_backup
from nova_fast.state.store import Store, StoreError
from nova_fast.state.testing import MemoryStore
from nova_fast.state.transaction import Transaction
from tests.unit.conductor.player import Cloud

IMAGE_ID = "12345678-0000-4000-8000-000000000000"


class Place:
    """A state folder with a store in it, and ``nova-fast`` on it."""

    def __init__(self, folder: Path) -> None:
        self.config = Config(state_dir=str(folder / "var"))
        self.path = self.config.store_path
        self.file = folder / "backup" / "monday.nfb"
        self.file.parent.mkdir()
        self.config_file = folder / "nova-fast.toml"
        self.config_file.write_text(f'state_dir = "{folder / "var"}"\n')

    def run(self, *arguments: str) -> int:
        return cli.main([*arguments, "--config", str(self.config_file)])

    def write(self, work: Callable[[MemoryStore], object]) -> None:
        store = Store.open(self.path)
        try:
            work(MemoryStore(store))
        finally:
            store.close()

    def flavors(self) -> list[str]:
        store = Store.open(self.path, readonly=True)
        try:
            with store.snapshot() as snapshot:
                return [flavor.id for flavor in snapshot.scan(tables.FLAVORS)]
        finally:
            store.close()

    def add_flavor(self, flavor_id: str) -> None:
        flavor = Flavor(id=flavor_id, name=flavor_id, vcpus=1, ram_mib=1, disk_gib=1)
        self.write(lambda made: made.run(lambda tx: tx.put(tables.FLAVORS, flavor)))

    def names(self) -> set[str]:
        return {path.name for path in self.config.state_path.iterdir()} - {"run", "log"}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)

    def furnish(made: MemoryStore) -> None:
        cloud = Cloud(made)
        cloud.active()
        cloud.create()

    place.write(furnish)
    return place


# ---------------------------------------------------------------------- check
def test_check_says_that_all_agrees(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (place.config.images_path).mkdir()
    (place.config.images_path / IMAGE_ID).write_bytes(b"x")
    assert place.run("check") == 0
    assert "everything agrees" in capsys.readouterr().out
    assert place.run("check", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["found"], report["findings"]) == (0, []) and report["records"] > 10


@pytest.mark.parametrize("copied", [False, True])
def test_check_tells_what_does_not_agree_and_ends_with_1(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    if copied:  # as a large store is
        monkeypatch.setattr(check, "COPIED_ABOVE_BYTES", 0)
    place.write(lambda made: made.run(lambda tx: tx.delete(tables.USAGES, "a" * 32)))
    assert place.run("check") == 1
    out = capsys.readouterr().out
    assert "is counted to have 0 instances, and has 2" in out
    assert f"image {IMAGE_ID} is active with 1 bytes, and has no file" in out
    assert place.run("check", "--json") == 1
    subjects = {finding["subject"] for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert subjects == {"usages", "images"}
    assert place.names() == {"store"}


def test_an_image_that_is_deleted_meanwhile_is_no_finding(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(place.path)
    made = MemoryStore(store)
    looked: list[str] = []

    def stored_bytes(_folder: Path, image_id: str) -> None:
        if not looked:
            made.run(lambda tx: tx.delete(tables.IMAGES, image_id))
        looked.append(image_id)

    monkeypatch.setattr(check, "stored_bytes", stored_bytes)
    try:
        assert check.examine(store, place.config.images_path).findings == []
    finally:
        store.close()
    assert looked == [IMAGE_ID]


def test_check_of_no_store_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Place(tmp_path).run("check") == 2
    assert "cannot check" in capsys.readouterr().err


def test_many_findings_are_counted_and_not_all_kept(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    with lmdb.open(str(place.path), max_dbs=256, map_size=1 << 30) as environment:
        with environment.begin(write=True) as txn:
            database = environment.open_db(b"regions", txn=txn)
            for number in range(1500):
                txn.put(b"r%d\0" % number, b"\xc1", db=database)
    assert place.run("check") == 1
    out = capsys.readouterr().out
    assert "… and 500 more" in out and "1501 things do not agree" in out


# ---------------------------------------------------------------------- backup
def test_a_backup_is_right_private_and_says_what_is_not_inside(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.run("backup", str(place.file)) == 0
    assert "not inside: the bytes of images" in capsys.readouterr().out
    assert place.file.stat().st_mode & 0o777 == 0o600
    manifest = read_manifest(place.file)
    assert manifest.bytes == place.file.stat().st_size - HEAD_BYTES
    assert manifest.schema_version == schema.SCHEMA_VERSION
    assert b'"sha256"' in place.file.read_bytes()[:HEAD_BYTES]
    assert place.run("check", str(place.file)) == 0
    assert [path.name for path in place.file.parent.iterdir()] == [place.file.name]


def test_a_backup_replaces_a_file_only_when_it_is_told_to(place: Place) -> None:
    place.file.write_text("precious")
    assert place.run("backup", str(place.file)) == 1
    assert place.file.read_text() == "precious"
    assert place.run("backup", str(place.file), "--force") == 0
    assert read_manifest(place.file).generation > 0


def test_a_backup_that_fails_leaves_no_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup_module.os, "fsync", no_space)
    place.file.write_text("precious")
    assert place.run("backup", str(place.file), "--force") == 1
    assert [path.name for path in place.file.parent.iterdir()] == [place.file.name]
    assert place.file.read_text() == "precious"


def test_a_backup_is_of_one_moment_while_the_store_is_written(place: Place) -> None:
    """Each transaction changes two records together; no backup shows one without the other."""
    store = Store.open(place.path)
    made = MemoryStore(store)
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.wait(0.001):
            number += 1
            both = [Flavor(id=name, name=name, vcpus=number, ram_mib=1, disk_gib=1) for name in ("left", "right")]

            def change(tx: Transaction, both: list[Flavor] = both) -> None:
                for one in both:
                    tx.put(tables.FLAVORS, one)
                tx.emit(HostRemoved(host="h9"))

            made.run(change)

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    try:
        for number in range(10):
            file = place.file.with_name(f"{number}.nfb")
            write_backup(store, file, version="0", made_at="now")
            with check.unpacked(file) as copy, copy.snapshot() as snapshot:
                left, right = (snapshot.get(tables.FLAVORS, name) for name in ("left", "right"))
                assert (left and left.vcpus) == (right and right.vcpus)
                assert snapshot.generation() == read_manifest(file).generation
                assert list(recount(snapshot)) == []
                seen.add(left and left.vcpus)
    finally:
        stop.set()
        writer.join()
        store.close()
    assert len(seen) > 2, "nothing was written meanwhile"


# ---------------------------------------------------------------------- restore
@pytest.fixture
def backed_up(place: Place) -> Iterator[Place]:
    """A backup was made, then something was added: a restore must take it away."""
    assert place.run("backup", str(place.file)) == 0
    place.add_flavor("later")
    yield place
    assert not place.path.with_name("store.restoring").exists()


def test_a_restore_brings_the_state_back_and_keeps_the_other_one(
    backed_up: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert backed_up.run("restore", str(backed_up.file)) == 0
    out = capsys.readouterr().out
    assert "later" not in backed_up.flavors()
    (kept,) = backed_up.path.parent.glob("store.before-*")
    assert f"is kept: {kept}" in out
    assert "hosts destroy guests" in out and "not inside: the bytes of images" in out
    other = Store.open(kept, readonly=True)
    with other.snapshot() as snapshot:
        assert snapshot.get(tables.FLAVORS, "later") is not None
    other.close()
    backed_up.add_flavor("after")  # it can be written, and the kept one does not see it
    assert "after" in backed_up.flavors()
    assert backed_up.path.joinpath("data.mdb").stat().st_mode & 0o777 == 0o600
    assert backed_up.run("restore", str(backed_up.file)) == 0
    assert len(list(backed_up.path.parent.glob("store.before-*"))) == 2


def test_a_restore_on_a_new_machine_needs_no_store(backed_up: Place, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    other = Place(tmp_path / "new")
    assert other.run("restore", str(backed_up.file)) == 0
    assert other.flavors() == ["1"]
    assert other.names() == {"store"}


def unchanged(place: Place, capsys: pytest.CaptureFixture[str], reason: str) -> None:
    before = (place.path / "data.mdb").read_bytes()
    assert place.run("restore", str(place.file)) == 1
    assert reason in capsys.readouterr().err
    assert (place.path / "data.mdb").read_bytes() == before
    assert "later" in place.flavors()
    assert place.names() == {"store"}


def edit(place: Place, position: int, old: bytes, new: bytes) -> None:
    content = bytearray(place.file.read_bytes())
    position = content.index(old, position)
    content[position : position + len(old)] = new
    place.file.write_bytes(content)


@pytest.mark.parametrize("position", [HEAD_BYTES, HEAD_BYTES + 5000, -1])
def test_a_damaged_backup_changes_nothing(backed_up: Place, position: int, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray(backed_up.file.read_bytes())
    content[position] ^= 1
    backed_up.file.write_bytes(content)
    unchanged(backed_up, capsys, "is damaged: its checksum is not that of its content")


def test_a_backup_that_is_not_whole_changes_nothing(backed_up: Place, capsys: pytest.CaptureFixture[str]) -> None:
    os.truncate(backed_up.file, backed_up.file.stat().st_size - 4096)
    unchanged(backed_up, capsys, "is not whole")


def test_a_manifest_that_was_changed_is_seen(backed_up: Place, capsys: pytest.CaptureFixture[str]) -> None:
    edit(backed_up, 0, b'"generation":', b'"generation":1')
    unchanged(backed_up, capsys, "nothing was restored")


def test_something_else_changes_nothing(backed_up: Place, capsys: pytest.CaptureFixture[str]) -> None:
    backed_up.file.write_bytes(b"GIF89a")
    unchanged(backed_up, capsys, "is no backup of nova-fast")
    backed_up.file.unlink()
    unchanged(backed_up, capsys, "No such file")


def test_a_backup_of_a_newer_release_changes_nothing(
    backed_up: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup_module.schema, "SCHEMA_VERSION", 2)
    file = backed_up.file.with_name("next.nfb")
    assert backed_up.run("backup", str(file)) == 0
    monkeypatch.undo()
    backed_up.file = file
    unchanged(backed_up, capsys, "was made by a newer release")


def test_a_backup_whose_records_do_not_agree_changes_nothing(
    backed_up: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    backed_up.write(lambda made: made.run(lambda tx: tx.delete(tables.USAGES, "a" * 32)))
    assert backed_up.run("backup", str(backed_up.file), "--force") == 0
    unchanged(backed_up, capsys, "things in it do not agree: project")


def test_a_disk_that_is_full_changes_nothing(
    backed_up: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup_module.os, "fsync", no_space)
    unchanged(backed_up, capsys, "No space left on device")


@pytest.mark.parametrize("readonly", [False, True])
def test_a_store_that_is_in_use_is_not_replaced(
    backed_up: Place, readonly: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store.open(backed_up.path, readonly=readonly)
    try:
        assert backed_up.run("restore", str(backed_up.file)) == 1
        assert "nova-fast down" in capsys.readouterr().err
    finally:
        store.close()
    assert "later" in backed_up.flavors()
    assert backed_up.run("restore", str(backed_up.file)) == 0


def test_nobody_opens_a_store_that_is_being_replaced(backed_up: Place) -> None:
    with replace.replacement(backed_up.path, "now"):
        for readonly in (False, True):
            with pytest.raises(StoreError):
                Store.open(backed_up.path, readonly=readonly)
    assert "later" in backed_up.flavors()


def restore_killed_after(steps: int, place: Place) -> int:
    """Restore in a process that is killed before one of its steps on the disk; its exit code."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        left = steps

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def step(*arguments: Any, **options: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **options)

            return step

        for module, name in ((os, "link"), (os, "replace"), (os, "rename"), (os, "fsync"), (shutil, "rmtree")):
            setattr(module, name, counted(getattr(module, name)))
        os._exit(place.run("restore", str(place.file)))
    finally:
        os._exit(3)


def test_a_restore_that_is_killed_at_any_step_leaves_one_store_or_the_other(backed_up: Place) -> None:
    old = (backed_up.path / "data.mdb").read_bytes()
    replaced = False
    for steps in range(40):
        code = restore_killed_after(steps, backed_up)
        assert not (replaced and "later" in backed_up.flavors()), "a store that was replaced came back"
        replaced = "later" not in backed_up.flavors()
        assert backed_up.run("check", "--json") in (0, 1)  # it can be read whole; the image of this cloud has no file
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert replaced and code == 0 and steps > 8
    kept = [path / "data.mdb" for path in backed_up.path.parent.glob("store.before-*")]
    assert any(path.read_bytes() == old for path in kept), "the old store is lost"
    live = (backed_up.path / "data.mdb").stat().st_ino
    assert all(path.stat().st_ino != live for path in kept)


def test_the_manifest_fits_its_page() -> None:
    huge = backup_module.Manifest(
        version="9" * 100, schema_version=10**9, generation=10**18, made_at="x" * 100, bytes=10**18, sha256="f" * 64
    )
    assert len(msgspec.json.encode(huge)) < HEAD_BYTES // 2
