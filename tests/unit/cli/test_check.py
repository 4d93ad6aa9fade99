"""``nova-fast check`` on real stores: what does not agree is told, and the exit code says so."""

from __future__ import annotations

import json
from pathlib import Path

import lmdb
import pytest

from nova_fast.cli import check
from nova_fast.state import schema as tables
from nova_fast.state.store import Store
from nova_fast.state.testing import MemoryStore
from tests.unit.cli.place import Place

IMAGE_ID = "12345678-0000-4000-8000-000000000000"


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
