"""Who may read the files of guests: this daemon, and the user QEMU runs as. Nobody else.

libvirt gives a guest's disks to QEMU's user when it starts it. What it does not do is open the way: QEMU must be able
to pass through every folder above. Our own folders belong to QEMU's group with mode 0710, so that others cannot even
look inside (config drives hold user data); folders above them are checked, and named when they bar the way.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import msgspec

from nova_fast.model.errors import Conflict, InternalError, Unavailable

_log = logging.getLogger(__name__)


def is_id(name: str) -> bool:
    """Whether a name in one of our folders is that of a server or an image, and not of what else lies there."""
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False


class QemuUser(msgspec.Struct, frozen=True, kw_only=True):
    """Whom QEMU runs as."""

    user_id: int
    group_id: int


def qemu_user(capabilities: str) -> QemuUser | None:
    """QEMU's user, from libvirt's capabilities XML; None when libvirt runs it as the user it runs as itself."""
    for model in ET.fromstring(capabilities).iterfind("./host/secmodel"):  # noqa: S314 - libvirt's own words
        if model.findtext("model") == "dac":
            user, _, group = model.findtext("baselabel", "").partition(":")
            if user and group:
                return QemuUser(user_id=int(user), group_id=int(group))
    return None


def barring_folder(folder: Path, user: QemuUser) -> Path | None:
    """The first folder from the root down that keeps the user from what is in ``folder``; None when none does."""
    if user.user_id == 0:
        return None
    for step in (*reversed(folder.parents), folder):
        status = step.stat()
        if status.st_uid == user.user_id:
            bit = 0o100
        elif status.st_gid == user.group_id:
            bit = 0o010
        else:
            bit = 0o001
        if not status.st_mode & bit:
            return step
    return None


class FileAccess:
    """Makes folders and files that only this daemon and QEMU can use."""

    def __init__(self, user: QemuUser | None) -> None:
        self._user = user

    def make_folder(self, folder: Path) -> None:
        """Make a folder QEMU can pass through and others cannot. Parents must be there."""
        folder.mkdir(mode=0o700, exist_ok=True)
        if self._user is None:
            folder.chmod(0o700)
            return
        try:
            os.chown(folder, -1, self._user.group_id)
            folder.chmod(0o710)
        except PermissionError:  # not root, and not in QEMU's group
            _log.warning("%s cannot be given to QEMU's group; others can pass through it", folder)
            folder.chmod(0o711)

    def share_file(self, path: Path) -> None:
        """Let QEMU read a file inside one of our folders, whoever owns it meanwhile."""
        path.chmod(0o444)

    def check_way(self, folder: Path) -> None:
        """Raises Conflict when QEMU cannot get to what is in ``folder``."""
        barrier = barring_folder(folder, self._user) if self._user else None
        if barrier is not None:
            raise Conflict(
                f"QEMU (user {self._user and self._user.user_id}) cannot pass through {barrier}.",
                code="instances_dir_barred",
                hint=f"chmod o+x {barrier}, or set compute.instances_dir to a folder that QEMU can reach.",
            )


@contextlib.contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Errors of the file system as something a person can act on. Raises Unavailable when what it takes is used up."""
    try:
        yield
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unavailable(f"Cannot {doing}: the host's disk is full.", code="host_disk_full") from e
        if e.errno in (errno.EMFILE, errno.ENFILE):
            raise Unavailable(
                f"Cannot {doing}: the host has no file descriptors left.", code="host_descriptors_used_up"
            ) from e
        _log.exception("cannot %s", doing)
        raise InternalError(f"Cannot {doing}: {e.strerror or 'I/O error'}.", code="host_disk_error") from e
