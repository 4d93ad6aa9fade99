"""Is an image what it says it is, and does it keep to itself? Pure.

A qcow2 file can name other files of the host (a backing file, a data file) which QEMU would open for the guest. So the
declared format is the only one ever used, the first bytes must agree with it, and a qcow2 header that names anything is
refused here, before any program has opened the file (CVE-2024-32498, CVE-2024-4467). ``qemu-img`` then has to agree.
"""

from __future__ import annotations

from typing import Any

import msgspec

from nova_fast.model.errors import BadRequest

HEAD_BYTES = 0x8006  # enough to see an ISO 9660 volume descriptor
_QCOW2 = b"QFI\xfb"
_ISO_OFFSET = 0x8001
_MAGICS = (
    (0, _QCOW2, "qcow2"),
    (0, b"QED\x00", "qed"),
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vhd"),
    (0x40, b"\x7f\x10\xda\xbe", "vdi"),
)
_DATA_FILE_BIT = 1 << 2  # of the incompatible features


def guessed_format(head: bytes) -> str:
    """The format the first bytes show: qcow2, iso, another container's name, or raw."""
    for offset, magic, name in _MAGICS:
        if head[offset : offset + len(magic)] == magic:
            return name
    return "iso" if head[_ISO_OFFSET : _ISO_OFFSET + 5] == b"CD001" else "raw"


def check_head(head: bytes, declared: str) -> None:
    """Look at the first :data:`HEAD_BYTES` of a file.

    Raises BadRequest when they do not fit its declared format, or name other files.
    """
    if declared not in ("raw", "qcow2", "iso"):
        raise _refusal(f"Its disk format {declared!r} cannot be booted here; use raw, qcow2 or iso.")
    guessed = guessed_format(head)
    fits = {"qcow2": ("qcow2",), "iso": ("iso",), "raw": ("raw", "iso")}[declared]  # hybrid ISOs are raw disks, too
    if guessed not in fits:
        raise _refusal(f"It is declared as {declared}, but its content is {guessed}.")
    if declared == "qcow2":
        _check_qcow2_header(head)


def _check_qcow2_header(head: bytes) -> None:
    """Source: docs/interop/qcow2.txt of QEMU."""
    if len(head) < 104:
        raise _refusal("Its qcow2 header is cut off.")
    version = int.from_bytes(head[4:8], "big")
    if version not in (2, 3):
        raise _refusal(f"Its qcow2 version {version} is unknown.")
    if int.from_bytes(head[8:16], "big"):
        raise _refusal("It needs a backing file.")
    if int.from_bytes(head[32:36], "big"):
        raise _refusal("It is encrypted.")
    if version == 3 and int.from_bytes(head[72:80], "big") & _DATA_FILE_BIT:
        raise _refusal("It keeps its data in another file.")


def virtual_size_from_info(info: bytes, expected_format: str) -> int:
    """The bytes a guest sees, from ``qemu-img info --output=json``. Raises BadRequest when it names other files."""
    data: dict[str, Any] = msgspec.json.decode(info, type=dict[str, Any])
    if data.get("format") != expected_format:
        raise _refusal(f"qemu-img takes it for {data.get('format')}.")
    specific = data.get("format-specific", {}).get("data", {})
    if data.get("backing-filename") or data.get("full-backing-filename") or specific.get("data-file"):
        raise _refusal("It names another file.")
    if data.get("encrypted") or specific.get("corrupt"):
        raise _refusal("It is encrypted or damaged.")
    size = data.get("virtual-size")
    if not isinstance(size, int) or size <= 0:
        raise _refusal("It has no size.")
    return size


def _refusal(reason: str) -> BadRequest:
    return BadRequest(f"The image cannot be used. {reason}", code="image_unacceptable", field="imageRef")
