"""``nova-fast backup`` and ``restore`` on real stores: what is wrong is told, and changes nothing."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nova_fast.cli import check
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
from tests.unit.cli.place import Place


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
        for number in range(200):
            if number >= 10 and len(seen) > 2:
                break
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


def test_a_backup_of_an_older_release_gets_the_indexes_it_did_not_have(backed_up: Place, tmp_path: Path) -> None:
    (tmp_path / "older").mkdir()
    older = Place(tmp_path / "older")
    index = tables.FLAVORS_BY_NAME
    tables.FLAVORS.indexes.remove(index)
    try:
        older.add_flavor("from-before")
        assert older.run("backup", str(older.file)) == 0
    finally:
        tables.FLAVORS.indexes.append(index)
    assert backed_up.run("check", str(older.file)) == 0
    assert backed_up.run("restore", str(older.file)) == 0
    store = Store.open(backed_up.path, readonly=True)
    with store.snapshot() as snapshot:
        assert snapshot.find(index, "from-before") is not None
    store.close()


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
