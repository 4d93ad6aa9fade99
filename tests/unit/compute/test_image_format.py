"""Images that are not what they say, or that reach outside themselves, are refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_fast.compute.drivers.libvirt.image_format import check_head, guessed_format, virtual_size_from_info
from nova_fast.model.errors import BadRequest


def qcow2(version: int = 3, backing_offset: int = 0, crypt: int = 0, features: int = 0) -> bytes:
    head = bytearray(4096)
    head[0:4] = b"QFI\xfb"
    head[4:8] = version.to_bytes(4, "big")
    head[8:16] = backing_offset.to_bytes(8, "big")
    head[32:36] = crypt.to_bytes(4, "big")
    head[72:80] = features.to_bytes(8, "big")
    return bytes(head)


ISO = bytes(0x8001) + b"CD001"


@pytest.mark.parametrize(
    ("head", "declared"), [(qcow2(), "qcow2"), (qcow2(2), "qcow2"), (b"\x00" * 512, "raw"), (ISO, "iso"), (ISO, "raw")]
)
def test_what_is_as_declared_is_accepted(head: bytes, declared: str) -> None:
    check_head(head, declared)


@pytest.mark.parametrize(
    ("head", "declared", "words"),
    [
        (qcow2(), "raw", "content is qcow2"),
        (b"\x00" * 512, "qcow2", "content is raw"),
        (b"\x00" * 512, "iso", "content is raw"),
        (b"# Disk DescriptorFile\n", "raw", "content is vmdk"),
        (b"KDMV", "raw", "content is vmdk"),
        (b"vhdxfile", "raw", "content is vhdx"),
        (b"QED\x00", "raw", "content is qed"),
        (bytes(0x40) + b"\x7f\x10\xda\xbe", "raw", "content is vdi"),
        (qcow2()[:50], "qcow2", "cut off"),
        (qcow2(version=9), "qcow2", "version"),
        (qcow2(backing_offset=256), "qcow2", "backing file"),
        (qcow2(crypt=2), "qcow2", "encrypted"),
        (qcow2(features=4), "qcow2", "another file"),
        (b"KDMV", "vmdk", "cannot be booted"),
    ],
)
def test_what_is_not_is_refused_in_words(head: bytes, declared: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        check_head(head, declared)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_accepted_as_raw_only_if_they_look_like_nothing_else(content: bytes, is_qcow2: bool) -> None:
    head = b"QFI\xfb" + content if is_qcow2 else content
    if guessed_format(head) in ("raw", "iso"):
        check_head(head, "raw")
    else:
        with pytest.raises(BadRequest):
            check_head(head, "raw")
    if not is_qcow2:
        with pytest.raises(BadRequest):
            check_head(b"x" + head, "qcow2")


@pytest.mark.parametrize(
    "info",
    [
        {"format": "raw"},
        {"format": "qcow2", "virtual-size": 0},
        {"format": "qcow2", "virtual-size": 1, "backing-filename": "/etc/shadow"},
        {"format": "qcow2", "virtual-size": 1, "full-backing-filename": "json:{}"},
        {"format": "qcow2", "virtual-size": 1, "encrypted": True},
        {"format": "qcow2", "virtual-size": 1, "format-specific": {"data": {"data-file": "/etc/shadow"}}},
        {"format": "qcow2", "virtual-size": 1, "format-specific": {"data": {"corrupt": True}}},
    ],
)
def test_what_qemu_img_says_is_judged_too(info: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        virtual_size_from_info(json.dumps(info).encode(), "qcow2")


def test_a_sound_image_has_its_virtual_size() -> None:
    info = {"format": "qcow2", "virtual-size": 1 << 30, "format-specific": {"data": {"corrupt": False}}}
    assert virtual_size_from_info(json.dumps(info).encode(), "qcow2") == 1 << 30
