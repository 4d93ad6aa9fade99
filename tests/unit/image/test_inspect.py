"""What an image file is recognised as, and which qcow2 files are refused."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_fast.image import inspect
from nova_fast.model.errors import BadRequest

MIB = 1 << 20


def reader(data: bytes) -> inspect.ReadAt:
    return lambda offset, length: data[offset : offset + length]


def check(data: bytes, disk_format: str) -> inspect.Inspected:
    return inspect.check(reader(data), len(data), disk_format)


def qemu_image(tmp_path: Path, disk_format: str, *options: str, size: str = "16M") -> bytes:
    path = tmp_path / f"made.{disk_format}"
    subprocess.run(["qemu-img", "create", "-q", "-f", disk_format, *options, path, size], check=True, timeout=30)
    return path.read_bytes()


@pytest.fixture
def qcow2(tmp_path: Path) -> bytearray:
    return bytearray(qemu_image(tmp_path, "qcow2"))


@pytest.mark.parametrize("disk_format", ["qcow2", "vmdk", "vdi", "vhdx", "vpc", "qed", "parallels"])
def test_what_qemu_makes_is_recognised(tmp_path: Path, disk_format: str) -> None:
    data = qemu_image(tmp_path, disk_format)
    assert inspect.detect(reader(data), len(data)) == {"vpc": "vhd"}.get(disk_format, disk_format)


@pytest.mark.parametrize("disk_format", ["qcow2", "vmdk", "vdi", "vhdx", "vpc", "qed", "parallels"])
def test_nothing_that_has_a_format_passes_as_raw(tmp_path: Path, disk_format: str) -> None:
    with pytest.raises(BadRequest):
        check(qemu_image(tmp_path, disk_format), "raw")


def test_a_text_descriptor_of_vmdk_is_not_raw() -> None:
    with pytest.raises(BadRequest, match="vmdk"):
        check(b'# Disk DescriptorFile\nversion=1\nRW 1 FLAT "/etc/shadow" 0\n', "raw")


def test_a_fixed_vhd_is_known_by_its_footer() -> None:
    data = bytes(4096) + b"conectix" + bytes(504)
    assert inspect.detect(reader(data), len(data)) == "vhd"


def test_a_luks_container_is_not_raw() -> None:
    with pytest.raises(BadRequest, match="luks"):
        check(b"LUKS\xba\xbe\x00\x02" + bytes(4096), "raw")


def test_an_iso_is_an_iso_and_not_raw() -> None:
    data = bytes(32 * 1024) + b"\x01CD001\x01" + bytes(2041)
    assert check(data, "iso") == inspect.Inspected(format="iso", virtual_size=len(data))
    with pytest.raises(BadRequest, match="iso"):
        check(data, "raw")


def test_a_disk_with_a_boot_record_is_raw() -> None:
    data = bytes(510) + b"\x55\xaa" + b"EFI PART" + bytes(4096)
    assert check(data, "raw").virtual_size == len(data)


@pytest.mark.parametrize("version", ["0.10", "1.1"])
def test_both_versions_of_qcow2_are_taken_with_the_size_the_guest_sees(tmp_path: Path, version: str) -> None:
    data = qemu_image(tmp_path, "qcow2", "-o", f"compat={version}", size="3G")
    assert check(data, "qcow2").virtual_size == 3 << 30


@pytest.mark.parametrize("options", ["cluster_size=512", "cluster_size=2M", "extended_l2=on,cluster_size=128k"])
def test_unusual_but_valid_clusters_are_taken(tmp_path: Path, options: str) -> None:
    assert check(qemu_image(tmp_path, "qcow2", "-o", options), "qcow2").virtual_size == 16 * MIB


def test_a_compressed_and_filled_qcow2_is_taken(tmp_path: Path) -> None:
    raw, made = tmp_path / "raw", tmp_path / "made"
    raw.write_bytes(b"content" * 300_000)
    subprocess.run(["qemu-img", "convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd", raw, made], check=True)
    assert check(made.read_bytes(), "qcow2").format == "qcow2"


def test_a_backing_file_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.write_bytes(bytes(MIB))
    with pytest.raises(BadRequest, match="backing file"):
        check(qemu_image(tmp_path, "qcow2", "-b", str(base), "-F", "raw", size="1M"), "qcow2")


def test_an_external_data_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="another file"):
        check(qemu_image(tmp_path, "qcow2", "-o", f"data_file={tmp_path}/data"), "qcow2")


def test_a_data_file_extension_is_refused_even_without_its_feature_bit(qcow2: bytearray) -> None:
    header_bytes = struct.unpack_from(">I", qcow2, 100)[0]
    qcow2[header_bytes : header_bytes + 16] = struct.pack(">II8s", 0x44415441, 8, b"/etc/x\0\0")
    with pytest.raises(BadRequest, match="another file"):
        check(bytes(qcow2), "qcow2")


def test_internal_snapshots_are_refused(tmp_path: Path) -> None:
    qemu_image(tmp_path, "qcow2")
    subprocess.run(["qemu-img", "snapshot", "-c", "s", tmp_path / "made.qcow2"], check=True, timeout=30)
    with pytest.raises(BadRequest, match="snapshots"):
        check((tmp_path / "made.qcow2").read_bytes(), "qcow2")


@pytest.mark.parametrize(
    ("form", "offset", "value", "words"),
    [
        (">I", 4, 4, "version 4"),
        (">I", 4, 1, "version 1"),
        (">I", 20, 8, "cluster size"),
        (">I", 20, 22, "cluster size"),
        (">Q", 24, 0, "virtual size"),
        (">Q", 24, 1 << 57, "virtual size"),
        (">Q", 24, 1 << 50, "L1 table is too small"),
        (">I", 32, 1, "encrypted"),
        (">I", 36, 1 << 31, "outside the file"),
        (">Q", 40, 1 << 40, "outside the file"),
        (">Q", 40, 12345, "outside the file"),
        (">Q", 48, 0, "outside the file"),
        (">Q", 72, 1 << 5, "features that are not known"),
        (">Q", 72, 1 << 63, "features that are not known"),
        (">Q", 72, 1 << 1, "corrupt"),
        (">I", 100, 50, "header length"),
    ],
)
def test_a_header_that_lies_is_refused(qcow2: bytearray, form: str, offset: int, value: int, words: str) -> None:
    struct.pack_into(form, qcow2, offset, value)
    with pytest.raises(BadRequest, match=words):
        check(bytes(qcow2), "qcow2")


@given(st.binary(max_size=300))
def test_whatever_follows_the_magic_number_is_refused_and_never_a_crash(rest: bytes) -> None:
    with pytest.raises(BadRequest):
        check(b"QFI\xfb" + rest, "qcow2")


@pytest.mark.parametrize("disk_format", ["vmdk", "vdi", "vhd", "vhdx", "ploop", "ami"])
def test_formats_that_do_not_boot_here_are_refused_with_what_to_do(disk_format: str) -> None:
    with pytest.raises(BadRequest) as caught:
        inspect.check_supported(disk_format)
    assert caught.value.hint is not None
    assert "qemu-img" in caught.value.hint


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(BadRequest, match="no content"):
        check(b"", "raw")
