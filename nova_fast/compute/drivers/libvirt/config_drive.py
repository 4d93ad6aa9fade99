"""A config drive: the files a guest reads instead of asking the metadata service. Pure but for the dates inside.

ISO 9660 with the label ``config-2`` (cloud-init and cloudbase-init look for it), Rock Ridge names for Unix and Joliet
names for Windows. Why this library: ``docs/decisions/config-drive.md``.
"""

from __future__ import annotations

import io
import re

import pycdlib

from nova_fast.model.errors import BadRequest, TooLarge

LABEL = "config-2"
MAX_BYTES = 64 << 20
_MAX_DEPTH = 6  # ISO 9660 allows eight levels
_PART = re.compile(r"[A-Za-z0-9_.-]{1,60}")


def build_config_drive(files: dict[str, bytes]) -> bytes:
    """An ISO 9660 image with these files: path inside it (``openstack/latest/user_data``) → content.

    Raises BadRequest for a path that leaves the drive or cannot be a name there, TooLarge over 64 MiB.
    """
    if sum(map(len, files.values())) > MAX_BYTES:
        raise TooLarge(f"A config drive holds at most {MAX_BYTES >> 20} MiB.")
    paths = {path: _parts(path) for path in files}
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=LABEL)
    try:
        iso_folders: dict[tuple[str, ...], str] = {(): ""}
        for folder in sorted({parts[:depth] for parts in paths.values() for depth in range(1, len(parts))}):
            iso_folders[folder] = f"{iso_folders[folder[:-1]]}/{_short('D', len(iso_folders))}"
            iso.add_directory(
                iso_folders[folder], rr_name=folder[-1], joliet_path="/" + "/".join(folder), file_mode=0o040555
            )
        for number, (path, parts) in enumerate(sorted(paths.items())):
            content = files[path]
            iso.add_fp(
                io.BytesIO(content),
                len(content),
                f"{iso_folders[parts[:-1]]}/{_short('F', number)}.;1",
                rr_name=parts[-1],
                joliet_path="/" + "/".join(parts),
                file_mode=0o100444,
            )
        out = io.BytesIO()
        iso.write_fp(out)
        return out.getvalue()
    finally:
        iso.close()


def _short(kind: str, number: int) -> str:
    """A name in ISO 9660's own small alphabet; readers see the Rock Ridge or Joliet name instead."""
    assert 0 <= number < 10_000_000
    return f"{kind}{number:07d}"


def _parts(path: str) -> tuple[str, ...]:
    parts = tuple(path.split("/"))
    if len(parts) > _MAX_DEPTH or any(not _PART.fullmatch(part) or part in (".", "..") for part in parts):
        raise BadRequest(f"{path!r} cannot be a file of a config drive.")
    return parts
