"""When guests run under KVM, and when they are emulated."""

from __future__ import annotations

import pytest

from nova_fast.compute.drivers.libvirt.virt_type import VirtFacts, choose_virt_type, cpu_flags, read_virt_facts
from nova_fast.model.errors import BadRequest

VMX, SVM, NONE = frozenset({"vmx", "fpu"}), frozenset({"svm"}), frozenset({"fpu"})


@pytest.mark.parametrize(
    ("configured", "machine", "kvm_usable", "flags", "expected"),
    [
        ("kvm", "x86_64", False, NONE, "kvm"),
        ("qemu", "x86_64", True, VMX, "qemu"),
        ("", "x86_64", True, VMX, "kvm"),
        ("", "x86_64", True, SVM, "kvm"),
        ("", "x86_64", True, NONE, "qemu"),
        ("", "x86_64", False, VMX, "qemu"),
        ("", "aarch64", True, NONE, "kvm"),
        ("", "aarch64", False, NONE, "qemu"),
    ],
)
def test_the_rule(configured: str, machine: str, kvm_usable: bool, flags: frozenset[str], expected: str) -> None:
    facts = VirtFacts(configured=configured, machine=machine, kvm_usable=kvm_usable, cpu_flags=flags)
    assert choose_virt_type(facts) == expected


def test_an_unknown_virt_type_is_refused_with_the_options_name() -> None:
    with pytest.raises(BadRequest) as caught:
        choose_virt_type(VirtFacts(configured="xen", machine="x86_64", kvm_usable=True, cpu_flags=VMX))
    assert caught.value.field == "compute.virt_type"


def test_the_first_processors_flags_are_read() -> None:
    text = "processor\t: 0\nflags\t\t: fpu vmx\n\nprocessor\t: 1\nflags\t\t: fpu\n"
    assert cpu_flags(text) == VMX
    assert cpu_flags("Features : fp asimd\n") == {"fp", "asimd"}
    assert cpu_flags("") == frozenset()


def test_this_machine_gives_an_answer() -> None:
    assert choose_virt_type(read_virt_facts("")) in ("kvm", "qemu")
