"""What a host's driver vouches for, in the names of os-traits: what a guest there can be given, and nothing more.

A trait that the driver cannot keep would let a flavor or an image ask for something and not get it, so what a device or
a firmware could do stands here only when a guest can have it. Source: ``nova/virt/libvirt/utils.py`` (CPU flags).
"""

from __future__ import annotations

from collections.abc import Iterable

#: CPU flag as ``/proc/cpuinfo`` writes it → traits.
_FLAGS: dict[str, tuple[str, ...]] = {
    "3dnow": ("3DNOW",), "abm": ("ABM",), "aes": ("AESNI",), "amx_bf16": ("AMXBF16",), "amx_int8": ("AMXINT8",),
    "amx_tile": ("AMXTILE",), "avx": ("AVX",), "avx2": ("AVX2",), "avx512bw": ("AVX512BW",),
    "avx512cd": ("AVX512CD",), "avx512dq": ("AVX512DQ",), "avx512er": ("AVX512ER",), "avx512f": ("AVX512F",),
    "avx512pf": ("AVX512PF",), "avx512vl": ("AVX512VL",), "avx512_vnni": ("AVX512VNNI",),
    "avx512vbmi": ("AVX512VBMI",), "avx512ifma": ("AVX512IFMA",), "avx512_vbmi2": ("AVX512VBMI2",),
    "avx512_bitalg": ("AVX512BITALG",), "vaes": ("AVX512VAES",), "gfni": ("AVX512GFNI",),
    "vpclmulqdq": ("AVX512VPCLMULQDQ",), "avx512_vpopcntdq": ("AVX512VPOPCNTDQ",), "bmi1": ("BMI",),
    "bmi2": ("BMI2",), "pclmulqdq": ("CLMUL",), "f16c": ("F16C",), "fma": ("FMA3",), "fma4": ("FMA4",),
    "mmx": ("MMX",), "mpx": ("MPX",), "sha_ni": ("SHA",), "sse": ("SSE",), "sse2": ("SSE2",), "pni": ("SSE3",),
    "sse4_1": ("SSE41",), "sse4_2": ("SSE42",), "sse4a": ("SSE4A",), "ssse3": ("SSSE3",),
    "svm": ("SVM", "AMD_SVM"), "tbm": ("TBM",), "vmx": ("VMX", "INTEL_VMX"), "xop": ("XOP",),
}  # fmt: skip
#: What QEMU's own default processor has, which guests get where nothing helps it.
EMULATED_FLAGS = frozenset({"mmx", "sse", "sse2", "pni"})
#: Of every driver: the image formats that it starts, and network cards that the metadata service names by their tags.
EVERY_DRIVER = (
    "COMPUTE_DEVICE_TAGGING",
    "COMPUTE_IMAGE_TYPE_ISO",
    "COMPUTE_IMAGE_TYPE_QCOW2",
    "COMPUTE_IMAGE_TYPE_RAW",
    "COMPUTE_NODE",
)
#: The devices of a QEMU guest, see ``libvirt/domain_xml``.
QEMU_GUEST = (
    "COMPUTE_FIRMWARE_BIOS",
    "COMPUTE_GRAPHICS_MODEL_VGA",
    "COMPUTE_NET_VIF_MODEL_VIRTIO",
    "COMPUTE_STORAGE_BUS_VIRTIO",
)
_OF_GUESTS = frozenset({"x86_64", "aarch64", "ppc64le", "s390x", "riscv64"})
_OF_HARDWARE = _OF_GUESTS - {"riscv64"}  # os-traits has no HW_ARCH_RISCV64


def cpu_traits(flags: Iterable[str]) -> set[str]:
    """The traits of a processor with these flags."""
    return {f"HW_CPU_X86_{trait}" for flag in flags for trait in _FLAGS.get(flag, ())}


def architecture_traits(machine: str) -> set[str]:
    """The traits of an instruction set, of the machine and of its guests; none for one without a standard name."""
    name = machine.upper()
    guests = {f"COMPUTE_ARCH_{name}"} if machine in _OF_GUESTS else set()
    return guests | ({f"HW_ARCH_{name}"} if machine in _OF_HARDWARE else set())
