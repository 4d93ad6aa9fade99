"""Runs a command in a mount namespace in which ``/dev/kvm`` cannot be used.

For the libvirtd that we start on a machine whose ``/dev/kvm`` exists and is of no use. Where that device is root's
alone, libvirt's probe (as root) finds KVM while QEMU (as its own user) could not use it; libvirt 9 takes this for a
change of the machine and probes QEMU anew at every start of a guest, 6 to 12 seconds each. An unreadable file in its
place makes both say the same. Nobody else on the machine sees the difference, and it is gone with the processes.

    python -m nova_fast.cli.hidden_kvm COMMAND [ARGUMENT …]
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile

DEVICE = "/dev/kvm"
_CLONE_NEWNS = 0x00020000  # sched.h
_MS_BIND, _MS_REC, _MS_SLAVE = 4096, 16384, 1 << 19  # sys/mount.h


def main(command: list[str]) -> None:
    """Become the command. Raises OSError when the namespace cannot be made."""
    if os.path.exists(DEVICE):
        _hide(DEVICE)
    os.execvp(command[0], command)  # noqa: S606 - an argument list, no shell


def _hide(path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(_CLONE_NEWNS), "unshare")
    # what is mounted later on the machine still arrives here; what is mounted here stays here
    _check(libc.mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None), "mount --make-rslave /")
    descriptor, empty = tempfile.mkstemp(prefix="no-kvm-")
    os.fchmod(descriptor, 0)
    os.close(descriptor)
    try:
        _check(libc.mount(empty.encode(), path.encode(), None, _MS_BIND, None), f"mount --bind {path}")
    finally:
        os.unlink(empty)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    main(sys.argv[1:])
