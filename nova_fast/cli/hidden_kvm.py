"""Runs a command in a mount namespace whose ``/dev`` has no ``kvm``.

For the libvirtd that we start on a machine whose ``/dev/kvm`` exists and is of no use. Where that device is root's
alone, libvirt's probe (as root) finds KVM while QEMU (as its own user) could not use it; libvirt 9 takes this for a
change of the machine and probes QEMU anew at every start of a guest, 6 to 12 seconds each. Nobody else on the machine
sees the difference, and it is gone with the processes.

A file mounted over ``/dev/kvm`` would not do: libvirt moves every mount below ``/dev`` into the namespace of each
guest, and cannot move that one. So ``/dev`` is made anew: the same device nodes and links, the same
``pts`` and ``shm``.

    python -m nova_fast.cli.hidden_kvm FOLDER COMMAND [ARGUMENT …]

FOLDER is where the new ``/dev`` is put together; it is made, and stays empty for everybody else.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from pathlib import Path

DEV = Path("/dev")
HIDDEN = frozenset({"kvm"})
#: Folders of ``/dev`` that are file systems of their own, and go along.
MOUNTED = ("pts", "shm")
#: Folders of ``/dev`` whose device nodes are wanted too.
FOLDERS = ("net",)

_CLONE_NEWNS = 0x00020000  # sched.h
_MS_BIND, _MS_MOVE, _MS_REC, _MS_SLAVE = 4096, 8192, 16384, 1 << 19  # sys/mount.h
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def main(folder: str, command: list[str]) -> None:
    """Become the command. Raises OSError when the namespace cannot be made."""
    if any((DEV / name).exists() for name in HIDDEN):
        _hide(Path(folder))
    os.execvp(command[0], command)  # noqa: S606 - an argument list, no shell


def _hide(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    # what is mounted later on the machine still arrives here; what is mounted here stays here
    _mount("none", Path("/"), None, _MS_REC | _MS_SLAVE)
    _mount("tmpfs", folder, "tmpfs", 0, "mode=755,size=64k")
    copy_nodes(DEV, folder)
    for name in FOLDERS:
        if (DEV / name).is_dir():
            (folder / name).mkdir()
            copy_nodes(DEV / name, folder / name)
    for name in MOUNTED:
        if os.path.ismount(DEV / name):
            (folder / name).mkdir()
            _mount(str(DEV / name), folder / name, None, _MS_BIND)
            while _libc.umount2(os.fsencode(DEV / name), _MNT_DETACH) == 0:
                pass
    _mount(str(folder), DEV, None, _MS_MOVE)


def copy_nodes(source: Path, target: Path) -> None:
    """Make the device nodes and links of a folder again in another, with owner and mode, but for the hidden ones."""
    for entry in os.scandir(source):
        path = target / entry.name
        info = entry.stat(follow_symlinks=False)
        if entry.name in HIDDEN:
            continue
        if entry.is_symlink():
            path.symlink_to(Path(entry.path).readlink())
        elif stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
            os.mknod(path, info.st_mode, info.st_rdev)
            os.chown(path, info.st_uid, info.st_gid)
            path.chmod(stat.S_IMODE(info.st_mode))


def _mount(source: str, target: Path, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = [None if text is None else text.encode() for text in (source, str(target), kind)]
    _check(_libc.mount(*texts, flags, None if data is None else data.encode()), f"mount {source} on {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
