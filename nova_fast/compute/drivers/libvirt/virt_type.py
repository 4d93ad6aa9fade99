"""Hardware virtualization or emulation?

libvirt is not asked: it offers KVM as soon as ``/dev/kvm`` opens, also on machines where no guest kernel survives it
(nested machines without the processor feature). The processor's own flags are the cheap and right test.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

import msgspec

from nova_fast.model.errors import BadRequest

_X86 = frozenset({"x86_64", "amd64", "i386", "i686"})


class VirtFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the choice depends on."""

    configured: str  # "" = not configured
    machine: str  # as uname says
    kvm_usable: bool  # /dev/kvm can be read and written
    cpu_flags: frozenset[str]


def choose_virt_type(facts: VirtFacts) -> str:
    """``kvm`` or ``qemu``. Raises BadRequest when the configuration says something else."""
    if facts.configured:
        if facts.configured not in ("kvm", "qemu"):
            raise BadRequest(
                f"compute.virt_type is {facts.configured!r}.",
                field="compute.virt_type",
                hint="Use kvm, qemu or nothing.",
            )
        return facts.configured
    if not facts.kvm_usable:
        return "qemu"
    if facts.machine in _X86 and not facts.cpu_flags & {"vmx", "svm"}:
        return "qemu"
    return "kvm"


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """The flags of the first processor in the text of ``/proc/cpuinfo``."""
    for line in cpuinfo.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def read_virt_facts(configured: str) -> VirtFacts:
    """The facts of this machine."""
    return VirtFacts(
        configured=configured,
        machine=platform.machine(),
        kvm_usable=os.access("/dev/kvm", os.R_OK | os.W_OK),
        cpu_flags=cpu_flags(Path("/proc/cpuinfo").read_text()),
    )
