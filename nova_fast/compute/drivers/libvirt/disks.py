"""The folder of a guest: ``<instances>/<server id>/`` with its disks, config drive and console log.

``image`` names the image the guest was made from, so that it stays in the cache as long as the guest is there.
``disk`` is a qcow2 overlay on the cached image (for an ISO image: an empty disk beside the CD), ``disk.eph0`` and
``disk.swap`` are sparse and formatted, ``disk.config`` is the config drive. ``spawned`` says that the guest has been
started once, so that a spawn that comes again leaves its disks alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
from pathlib import Path

from nova_fast.compute.drivers.libvirt.config_drive import build_config_drive
from nova_fast.compute.drivers.libvirt.domain_xml import Backing, Disk, identifier
from nova_fast.compute.drivers.libvirt.file_access import FileAccess, disk_errors, is_id
from nova_fast.compute.drivers.libvirt.image_cache import CachedImage
from nova_fast.compute.drivers.libvirt.tools import run_tool
from nova_fast.model.errors import BadRequest, InternalError, NotFound
from nova_fast.model.tasks import Guest

CONSOLE_BYTES_MAX = 1 << 20
_GIB = 1 << 30
_MIB = 1 << 20
_NAME_BYTES_MAX = 1023  # of a backing file, by the format's specification
_QCOW2_HEAD = struct.Struct(">4sIQI")  # magic, version, where the backing file's name is, its length
_QCOW2_MAGIC = b"QFI\xfb"


class GuestFolders:
    """Where the guests of a host keep their files. Methods block."""

    def __init__(self, instances: Path, access: FileAccess) -> None:
        self._instances = instances
        self._access = access

    def folder(self, server_id: str) -> Path:
        """The folder of a server. Raises BadRequest for an id that is no name."""
        return self._instances / identifier(server_id, "server_id")

    def server_ids(self) -> list[str]:
        """The servers that have a folder here, also one half made."""
        with disk_errors("list the guests' folders"):
            return [entry.name for entry in os.scandir(self._instances) if entry.is_dir() and is_id(entry.name)]

    def images_in_use(self) -> set[str] | None:
        """The images that the guests here need; None when one of them does not say."""
        found: set[str] = set()
        for server_id in self.server_ids():
            folder = self.folder(server_id)
            with disk_errors("read which image a guest needs"):
                image_id = _read(folder / "image", _NAME_BYTES_MAX) or _backing_name(folder / "disk")
                if not image_id and folder.exists():
                    return None
            found.add(image_id)
        return found

    def console_log(self, server_id: str) -> Path:
        """The file virtlogd writes a guest's serial console to."""
        return self.folder(server_id) / "console.log"

    def spawned(self, server_id: str) -> bool:
        """Whether the guest has been started once with these disks."""
        return (self.folder(server_id) / "spawned").exists()

    def mark_spawned(self, server_id: str) -> None:
        """Say so."""
        with disk_errors("finish the guest's folder"):
            (self.folder(server_id) / "spawned").touch(mode=0o600)

    def make(self, guest: Guest, image: CachedImage) -> None:
        """Make all disks of a new guest, in place of whatever was there.

        Raises BadRequest when the root disk is smaller than the image.
        """
        folder = self.folder(guest.server_id)
        if not image.is_iso and 0 < guest.root_disk_gib * _GIB < image.virtual_size:
            needed_gib = -(-image.virtual_size // _GIB)
            raise BadRequest(
                f"The image needs {needed_gib} GiB; the flavor's root disk has {guest.root_disk_gib}.",
                code="flavor_disk_too_small",
                field="flavorRef",
            )
        self.remove(guest.server_id)
        with disk_errors("make the guest's disks"):
            self._access.make_folder(folder)
            _write_new(folder / "image", identifier(guest.image.id, "image_id").encode())
            _make_root(folder / "disk", guest, image)
            if guest.ephemeral_gib:
                _sparse(folder / "disk.eph0", guest.ephemeral_gib * _GIB)
                run_tool(["mkfs.ext4", "-q", "-F", "-L", "ephemeral0", str(folder / "disk.eph0")])
            if guest.swap_mib:
                _sparse(folder / "disk.swap", guest.swap_mib * _MIB)
                run_tool(["mkswap", str(folder / "disk.swap")])

    def write_config_drive(self, guest: Guest) -> None:
        """Write the config drive, if the guest has one; replaces the old one at once or not at all."""
        if guest.config_drive is None:
            return
        content = build_config_drive(guest.config_drive)
        target = self.folder(guest.server_id) / "disk.config"
        partial = target.with_suffix(".partial")
        with disk_errors("write the config drive"):
            partial.unlink(missing_ok=True)
            _write_new(partial, content)
            os.rename(partial, target)

    def disks(self, guest: Guest, image: CachedImage) -> tuple[Disk, ...]:
        """The guest's disks in the order the guest sees them. Raises InternalError when one has gone."""
        folder = self.folder(guest.server_id)
        root, chosen = str(folder / "disk"), []
        if not image.is_iso:
            backing = Backing(path=image.path, format=image.format)
            chosen.append(Disk(path=root, format="qcow2", boot_order=1, backing=backing))
        else:
            if guest.root_disk_gib:
                chosen.append(Disk(path=root, format="qcow2", boot_order=1))  # first: bootable once it is installed
            cdrom = Disk(path=image.path, format="raw", device="cdrom", read_only=True, shared=True, boot_order=2)
            chosen.append(cdrom)
        if guest.ephemeral_gib:
            chosen.append(Disk(path=str(folder / "disk.eph0"), format="raw"))
        if guest.swap_mib:
            chosen.append(Disk(path=str(folder / "disk.swap"), format="raw"))
        if guest.config_drive is not None:
            chosen.append(Disk(path=str(folder / "disk.config"), format="raw", read_only=True))
        for disk in chosen:
            if not os.path.exists(disk.path):
                raise InternalError(
                    f"The file {os.path.basename(disk.path)} of server {guest.server_id} is not on this host any more.",
                    code="guest_disk_missing",
                    hint="Delete the server, or rebuild it from its image.",
                )
        return tuple(chosen)

    def remove(self, server_id: str) -> None:
        """Remove a guest's folder with all that is in it; nothing there is fine."""
        folder = self.folder(server_id)
        with disk_errors("remove the guest's files"), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
        assert not folder.exists()

    def read_console(self, server_id: str, lines: int | None) -> str:
        """The last lines of the console log, from at most its last MiB. Raises NotFound when there is no such guest."""
        log = self.console_log(server_id)
        with disk_errors("read the console log"):
            if not log.parent.is_dir():
                raise NotFound(f"There is no guest for server {server_id} on this host.")
            content = _tail(log, CONSOLE_BYTES_MAX)
            if len(content) < CONSOLE_BYTES_MAX:  # just rotated: the part before is in the next file
                content = _tail(log.with_name("console.log.0"), CONSOLE_BYTES_MAX - len(content)) + content
        return last_lines(content.decode("utf-8", "replace"), lines)


def last_lines(text: str, lines: int | None) -> str:
    """The last ``lines`` lines of a text; all of it for None."""
    if lines is None:
        return text
    return "".join(text.splitlines(keepends=True)[-lines:]) if lines > 0 else ""


def _tail(path: Path, limit: int) -> bytes:
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            return file.read(limit)
    except FileNotFoundError:
        return b""


def _read(path: Path, limit: int) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(limit).decode(errors="replace")
    except FileNotFoundError:
        return ""


def _backing_name(path: Path) -> str:
    """The last part of the path that a qcow2 file names as its backing file; "" when there is none."""
    try:
        with open(path, "rb") as file:
            head = file.read(_QCOW2_HEAD.size)
            if len(head) < _QCOW2_HEAD.size:
                return ""
            magic, _version, offset, size = _QCOW2_HEAD.unpack(head)
            if magic != _QCOW2_MAGIC or not 0 < size <= _NAME_BYTES_MAX:
                return ""
            file.seek(offset)
            return os.path.basename(file.read(size).decode(errors="replace"))
    except FileNotFoundError:
        return ""


def _write_new(path: Path, content: bytes) -> None:
    """A file that nobody else may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _make_root(path: Path, guest: Guest, image: CachedImage) -> None:
    size = [f"{guest.root_disk_gib}G"] if guest.root_disk_gib else []
    if image.is_iso:
        if not size:
            return
        run_tool(["qemu-img", "create", "-q", "-f", "qcow2", str(path), *size])
    else:
        backing = ["-b", image.path, "-F", image.format]
        run_tool(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(path), *size])
    path.chmod(0o600)


def _sparse(path: Path, size: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)
