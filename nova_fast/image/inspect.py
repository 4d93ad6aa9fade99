"""What a disk image really is, from its first bytes, and whether it is safe to give to QEMU.

An image is never probed by QEMU and never trusted by its name: a "raw" image that carries a qcow2 header could name
``/etc/shadow`` as its backing file. So the content is recognised here, by magic numbers and without any library that
executes it, and must be what its owner said (``docs/decisions/image-inspection.md``).

Sources: QEMU's docs/interop/qcow2.rst (header, incompatible features); ECMA-119 (ISO 9660) 8.1; the magic numbers of
VMDK, VDI, VHD, VHDX, QED and LUKS as their specifications give them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import msgspec

from nova_fast.model.errors import BadRequest
from nova_fast.model.images import BOOTABLE_FORMATS

#: (offset, length) → that part of the file; shorter at its end.
ReadAt = Callable[[int, int], bytes]

_ISO_DESCRIPTORS_AT = 32 * 1024
_VHD_FOOTER_BYTES = 512
_QCOW2_MAGIC = b"QFI\xfb"
_CLUSTER_BITS = range(9, 22)  # 512 bytes to 2 MiB
_INCOMPATIBLE_DIRTY = 1 << 0
_INCOMPATIBLE_CORRUPT = 1 << 1
_INCOMPATIBLE_DATA_FILE = 1 << 2
_INCOMPATIBLE_COMPRESSION = 1 << 3
_INCOMPATIBLE_EXTENDED_L2 = 1 << 4
_INCOMPATIBLE_KNOWN = (
    _INCOMPATIBLE_DIRTY
    | _INCOMPATIBLE_CORRUPT
    | _INCOMPATIBLE_DATA_FILE
    | _INCOMPATIBLE_COMPRESSION
    | _INCOMPATIBLE_EXTENDED_L2
)
_EXTENSION_DATA_FILE = 0x44415441
_VIRTUAL_BYTES_MAX = 1 << 56

#: format, offset of its magic number, the magic number; the first that is found is the answer.
_MAGIC: tuple[tuple[str, int, bytes], ...] = (
    ("qcow2", 0, _QCOW2_MAGIC),
    ("qed", 0, b"QED\0"),
    ("vmdk", 0, b"KDMV"),
    ("vmdk", 0, b"COWD"),
    ("vmdk", 0, b"# Disk DescriptorFile"),
    ("vdi", 0x40, b"\x7f\x10\xda\xbe"),
    ("vhdx", 0, b"vhdxfile"),
    ("vhd", 0, b"conectix"),
    ("luks", 0, b"LUKS\xba\xbe"),
    ("parallels", 0, b"WithoutFreeSpace"),
    ("parallels", 0, b"WithouFreSpacExt"),
    ("bochs", 0, b"Bochs Virtual HD Image"),
    ("cloop", 0, b"#!/bin/sh\n#V2.0 Format\n"),
    ("dmg", 0, b"koly"),
)
_HEAD_BYTES = 4096


class Inspected(msgspec.Struct, frozen=True):
    """What a file turned out to be."""

    format: str
    virtual_size: int  # bytes the guest sees


def detect(read_at: ReadAt, size: int) -> str:
    """The format of a file of ``size`` bytes; whatever nothing else claims is ``raw``."""
    head = read_at(0, _HEAD_BYTES)
    for name, offset, magic in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return name
    if size >= _VHD_FOOTER_BYTES and read_at(size - _VHD_FOOTER_BYTES, 8) == b"conectix":
        return "vhd"
    if read_at(_ISO_DESCRIPTORS_AT + 1, 5) in (b"CD001", b"NSR02", b"NSR03"):
        return "iso"
    return "raw"


def check(read_at: ReadAt, size: int, disk_format: str) -> Inspected:
    """Make sure that a file is what it was said to be, and safe.

    Raises BadRequest for content of another format, for formats no guest boots from here, and for qcow2 files that
    point outside themselves or cannot be read safely.
    """
    check_supported(disk_format)
    if size == 0:
        raise BadRequest("The image has no content.", code="image_empty")
    found = detect(read_at, size)
    if found != disk_format:
        raise BadRequest(
            f"The content of the image is {found}, but its disk_format is {disk_format}.",
            code="image_format_mismatch",
            field="disk_format",
            hint="Give the disk format that the file has.",
        )
    if found == "qcow2":
        return Inspected(format=found, virtual_size=check_qcow2(read_at, size))
    return Inspected(format=found, virtual_size=size)


def check_supported(disk_format: str) -> None:
    """Raise BadRequest for a format no guest boots from here."""
    if disk_format not in BOOTABLE_FORMATS:
        raise BadRequest(
            f"Images of disk_format {disk_format} cannot be used here; use one of {', '.join(BOOTABLE_FORMATS)}.",
            code="image_format_unsupported",
            field="disk_format",
            hint="qemu-img convert -O qcow2 makes such an image.",
        )


def check_qcow2(read_at: ReadAt, size: int) -> int:
    """The virtual size in bytes of a qcow2 file. Raises BadRequest when it is unsafe or broken."""
    head = read_at(0, 104)
    if len(head) < 72:
        raise _bad("its header is cut short")
    version, backing_at, _backing_bytes, cluster_bits, virtual_size, encryption = struct.unpack_from(">IQIIQI", head, 4)
    if version not in (2, 3):
        raise _bad(f"version {version} is not supported")
    if backing_at:
        raise _bad("it has a backing file", "qemu-img convert -O qcow2 makes one that stands alone.")
    if cluster_bits not in _CLUSTER_BITS:
        raise _bad(f"its cluster size (2^{cluster_bits}) is not valid")
    if encryption:
        raise _bad("it is encrypted")
    if not 0 < virtual_size <= _VIRTUAL_BYTES_MAX:
        raise _bad(f"its virtual size ({virtual_size} bytes) is not valid")
    _check_tables(head, size, cluster_bits, virtual_size)
    header_bytes = 72
    if version == 3:
        header_bytes = _check_version_3(head)
    _check_extensions(read_at, header_bytes, 1 << cluster_bits)
    return int(virtual_size)


def _check_tables(head: bytes, size: int, cluster_bits: int, virtual_size: int) -> None:
    """The tables must lie in the file, be aligned, and be large enough for the disk."""
    l1_entries, l1_at, refcounts_at, refcount_clusters = struct.unpack_from(">IQQI", head, 36)
    snapshots = struct.unpack_from(">I", head, 60)[0]
    cluster_bytes = 1 << cluster_bits
    if snapshots:
        raise _bad("it has internal snapshots", "qemu-img convert -O qcow2 makes one without.")
    bytes_per_l1_entry = cluster_bytes * (cluster_bytes // 8)
    if l1_entries < -(-virtual_size // bytes_per_l1_entry):
        # With extended L2 entries a table covers half as much, so this bound is the weaker and always right one.
        raise _bad("its L1 table is too small for its virtual size")
    for at, length in ((l1_at, l1_entries * 8), (refcounts_at, refcount_clusters * cluster_bytes)):
        if at == 0 or at % cluster_bytes or at + length > size + cluster_bytes:
            raise _bad("its tables lie outside the file")


def _check_version_3(head: bytes) -> int:
    if len(head) < 104:
        raise _bad("its header is cut short")
    incompatible, header_bytes = struct.unpack_from(">Q", head, 72)[0], struct.unpack_from(">I", head, 100)[0]
    if incompatible & _INCOMPATIBLE_DATA_FILE:
        raise _bad("its data are in another file")
    if incompatible & ~_INCOMPATIBLE_KNOWN:
        raise _bad("it needs features that are not known here")
    if incompatible & _INCOMPATIBLE_CORRUPT:
        raise _bad("it is marked as corrupt", "qemu-img check -r all may repair it.")
    if header_bytes < 104 or header_bytes % 8:
        raise _bad(f"its header length ({header_bytes}) is not valid")
    return int(header_bytes)


def _check_extensions(read_at: ReadAt, begin: int, cluster_bytes: int) -> None:
    """Walk the header extensions, which end in the first cluster; none may name another file."""
    at = begin
    while at + 8 <= cluster_bytes:
        part = read_at(at, 8)
        if len(part) < 8:
            return
        kind, length = struct.unpack(">II", part)
        if kind == 0:
            return
        if kind == _EXTENSION_DATA_FILE:
            raise _bad("its data are in another file")
        at += 8 + (length + 7) // 8 * 8
    if at > cluster_bytes:
        raise _bad("its header extensions do not end")


def _bad(why: str, hint: str | None = None) -> BadRequest:
    return BadRequest(f"The qcow2 image cannot be used: {why}.", code="image_unsafe", hint=hint)
