"""A config drive is what cloud-init and cloudbase-init can read."""

from __future__ import annotations

import io

import pycdlib
import pytest

from nova_fast.compute.drivers.libvirt.config_drive import MAX_BYTES, build_config_drive
from nova_fast.model.errors import BadRequest, TooLarge

FILES = {
    "openstack/latest/meta_data.json": b'{"uuid": "x"}',
    "openstack/latest/user_data": b"#!/bin/sh\n" * 1000,
    "openstack/content/0000": b"",
    "ec2/latest/meta-data.json": b"{}",
}


def read_back(drive: bytes, kind: str) -> dict[str, bytes]:
    """Every file under its Rock Ridge or Joliet name."""
    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BytesIO(drive))
    found = {}
    for folder, _, names in iso.walk(**{kind: "/"}):
        for name in names:
            path = f"{folder.rstrip('/')}/{name}"
            out = io.BytesIO()
            iso.get_file_from_iso_fp(out, **{kind: path})
            found[path.removeprefix("/")] = out.getvalue()
    iso.close()
    return found


@pytest.mark.parametrize("kind", ["rr_path", "joliet_path"])
def test_unix_and_windows_names_lead_to_every_file(kind: str) -> None:
    assert read_back(build_config_drive(FILES), kind) == FILES


def test_the_label_is_the_one_guests_look_for() -> None:
    drive = build_config_drive(FILES)
    assert drive[0x8001:0x8006] == b"CD001"
    assert drive[0x8028:0x8048].rstrip() == b"config-2"


def test_a_drive_without_files_is_a_drive() -> None:
    assert read_back(build_config_drive({}), "rr_path") == {}


@pytest.mark.parametrize(
    "path", ["", "/abs", "../up", "a/../b", "a//b", "a/./b", "sp ace", "x" * 61, "a/b/c/d/e/f/g", "nul\0"]
)
def test_a_path_that_leaves_the_drive_or_cannot_be_a_name_is_refused(path: str) -> None:
    with pytest.raises(BadRequest):
        build_config_drive({path: b""})


def test_too_much_is_refused() -> None:
    with pytest.raises(TooLarge):
        build_config_drive({"a": bytes(MAX_BYTES), "b": b"1"})
