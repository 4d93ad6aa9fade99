"""The vocabulary of the cases: names and values that fleets and requests share, so that they meet."""

from __future__ import annotations

ZONES = ("nova", "az1", "az-2", "zöne 3")
PROJECTS = ("p1", "p2", "p3", "prøjekt")
FLAVORS = ("m1.small", "m1.large", "flavor with spaces", "g1,x", "größe")
GROUPS = ("a0000000-0000-4000-8000-000000000001", "a0000000-0000-4000-8000-000000000002")
IMAGES = ("1b000000-0000-4000-8000-000000000001", "1b000000-0000-4000-8000-000000000002", "")
TRAITS = ("HW_CPU_X86_AVX2", "HW_CPU_X86_VMX", "STORAGE_DISK_SSD", "COMPUTE_NODE", "CUSTOM_GOLD", "CUSTOM_RACK_7")
# What Nova requires for a feature that a flavor or an image asks for.
FEATURE_TRAITS = (
    "COMPUTE_SECURITY_UEFI_SECURE_BOOT",
    "HW_CPU_HYPERTHREADING",
    "COMPUTE_SOCKET_PCI_NUMA_AFFINITY",
    "COMPUTE_SOUND_MODEL_VIRTIO",
    "COMPUTE_NET_VIRTIO_PACKED",
    "COMPUTE_ACCELERATORS",
    "COMPUTE_ADDRESS_SPACE_PASSTHROUGH",
    "COMPUTE_ADDRESS_SPACE_EMULATED",
    "COMPUTE_SECURITY_STATELESS_FIRMWARE",
    "COMPUTE_EPHEMERAL_ENCRYPTION",
    "COMPUTE_EPHEMERAL_ENCRYPTION_LUKS",
    "COMPUTE_SECURITY_TPM_CRB",
    "COMPUTE_SECURITY_TPM_TIS",
    "COMPUTE_SECURITY_TPM_1_2",
    "COMPUTE_SECURITY_TPM_2_0",
    "COMPUTE_SECURITY_TPM_SECRET_SECURITY_USER",
    "COMPUTE_SECURITY_TPM_SECRET_SECURITY_HOST",
    "COMPUTE_STORAGE_BUS_VIRTIO",
    "COMPUTE_STORAGE_BUS_SCSI",
    "COMPUTE_NET_VIF_MODEL_VIRTIO",
    "COMPUTE_NET_VIF_MODEL_E1000E",
    "HW_CPU_X86_AMD_SEV",
    "HW_CPU_X86_AMD_SEV_ES",
    "HW_ARCH_X86_64",
    "HW_ARCH_AARCH64",
)
FEATURE_SPECS = {
    "os:secure_boot": ("required", "optional", "disabled"),
    "hw:sound_model": ("virtio", "ich9"),
    "hw:virtio_packed_ring": ("true", "1", "false"),
    "accel:device_profile": ("fpga",),
    "hw:maxphysaddr_mode": ("passthrough", "emulate"),
    "hw:ephemeral_encryption": ("true", "no"),
    "hw:ephemeral_encryption_format": ("luks",),
    "hw:tpm_version": ("1.2", "2.0"),
    "hw:tpm_model": ("tpm-tis", "tpm-crb"),
    "hw:tpm_secret_security": ("user", "host"),
    "hw:cpu_thread_policy": ("require", "isolate", "prefer"),
    "hw:pci_numa_affinity_policy": ("socket", "legacy"),
}
FEATURE_PROPERTIES = {
    "os_secure_boot": ("required", "optional"),
    "hw_sound_model": ("virtio", "ich9"),
    "hw_virtio_packed_ring": ("yes", "false"),
    "hw_firmware_stateless": ("true", "false"),
    "hw_firmware_type": ("uefi", "bios"),
    "hw_ephemeral_encryption": ("true",),
    "hw_ephemeral_encryption_format": ("luks",),
    "hw_tpm_version": ("1.2", "2.0"),
    "hw_tpm_model": ("tpm-tis", "tpm-crb"),
    "hw_vif_model": ("virtio", "e1000e"),
    "hw_maxphysaddr_mode": ("passthrough", "emulate"),
    "hw_pci_numa_affinity_policy": ("socket", "preferred"),
}
CUSTOM_CLASSES = ("CUSTOM_LICENSE", "CUSTOM_FPGA", "VGPU", "PCPU")
# What Nova asks for a feature beside its trait.
FEATURE_CLASSES = ("MEM_ENCRYPTION_CONTEXT", "CUSTOM_PMEM_NAMESPACE_SMALL", "CUSTOM_PMEM_NAMESPACE_6GB")

# Aggregate metadata that a flavor may ask for, with values on both sides.
SPEC_KEYS = ("ssd", "gpu", "cores", "tier", "ключ", "hypervisor_type", "free_ram_mb")
SPEC_VALUES = (
    "true",
    "false",
    "a100",
    "v100,a100",
    " a100 , t4",
    "8",
    "16",
    "4.5",
    "gold",
    "",
    "  ",
    "złoto",
    "QEMU",
    "-1",
)

LIMITS = ("0", "1", "3", "8", "50", " 5 ", "-1", "abc", "1.5", "", "٣", "1_0", "99999999999999999999")
MULTIPLIERS = ("1.0", "-2", "0", "0.5", "1e3", " 2 ", "abc", "", "1_0", "-0.0", "1e-300", "0.1", "3,4")
TENANTS = ("p1", "p2", "p1,p2", " p3 , p1 ", "", "prøjekt", ",")
TYPES = ("m1.small", "m1.large", "m1.small,m1.large", " m1.small , größe ", "", "g1,x", "flavor with spaces")

MULTIPLIER_NAMES = (
    "ram_weight_multiplier",
    "cpu_weight_multiplier",
    "disk_weight_multiplier",
    "io_ops_weight_multiplier",
    "pci_weight_multiplier",
    "soft_affinity_weight_multiplier",
    "soft_anti_affinity_weight_multiplier",
    "build_failure_weight_multiplier",
    "cross_cell_move_weight_multiplier",
    "hypervisor_version_weight_multiplier",
    "num_instances_weight_multiplier",
    "image_props_weight_multiplier",
)

ARCHITECTURES = ("x86_64", "aarch64", "i686", "ppc64le")
ARCHITECTURE_NAMES = (*ARCHITECTURES, "amd64", "AMD64", "i386", "x86_32", "AArch64")
HYPERVISOR_TYPES = ("qemu", "kvm", "lxc", "fake", "xen")
HYPERVISOR_TYPE_NAMES = (*HYPERVISOR_TYPES, "QEMU", "xapi", "KVM")
VM_MODES = ("hvm", "xen", "exe", "uml")
VM_MODE_NAMES = (*VM_MODES, "HVM", "pv", "hv", "baremetal")
HYPERVISOR_VERSIONS = (0, 1, 6002000, 7002001, 8002002, 10000000, 2147483647)
VERSION_REQUIREMENTS = (
    ">=6.2",
    "<8.0",
    "==8.2.2",
    "!=8.2.2",
    ">=7.2.1,<10",
    " > 6.2 , <= 10.0.0 ",
    "<=10",
    ">6.2a1",
    "<10.0rc1",
    "==10.0.0.0",
)

# Properties that images and aggregates share, for isolation and for the weigher of image properties.
IMAGE_PROPERTIES = {
    "os_distro": ("debian", "ubuntu", "windows", "дебиан"),
    "os_type": ("linux", "windows"),
    "hw_machine_type": ("q35", "pc", "virt"),
    "hw_firmware_type": ("uefi", "bios"),
    "hw_disk_bus": ("virtio", "scsi"),
    "hw_cpu_cores": ("2", "4"),
    "hw_qemu_guest_agent": ("true", "yes", "no", "False"),
    "os_require_quiesce": ("true", "no"),
    "hw_vif_multiqueue_enabled": ("true", "1", "off"),
}
# Named in a way that Nova has long given up, or not Nova's at all.
ODD_PROPERTIES = {"licence": ("gold", "none"), "os_version": ("12",), "unknown_property": ("x",), "description": ("ä",)}

TIME_METRICS = ("cpu.frequency", "cpu.user.time", "cpu.kernel.time", "cpu.idle.time", "cpu.iowait.time")
PERCENT_METRICS = ("cpu.percent", "cpu.user.percent", "cpu.kernel.percent", "cpu.idle.percent", "cpu.iowait.percent")

CPU_FEATURES = ("aes", "avx", "avx2", "avx512f", "vmx", "svm", "sse4.2", "pdpe1gb")

# What the attributes of a host state are called in Nova, for capabilities and JSON queries.
ATTRIBUTES = (
    "free_ram_mb",
    "free_disk_mb",
    "vcpus_total",
    "vcpus_used",
    "total_usable_ram_mb",
    "total_usable_disk_gb",
    "disk_mb_used",
    "num_instances",
    "num_io_ops",
    "failed_builds",
    "host",
    "nodename",
    "host_ip",
    "hypervisor_type",
    "hypervisor_version",
    "hypervisor_hostname",
    "cpu_allocation_ratio",
    "ram_allocation_ratio",
    "disk_allocation_ratio",
)

PCI_ALIASES = (
    {"name": "qat", "vendor_id": "8086", "product_id": "37c8", "device_type": "type-PCI"},
    {"name": "nic", "vendor_id": "8086", "product_id": "154d", "device_type": "type-PF"},
    {"name": "vf", "vendor_id": "8086", "product_id": "10ed", "device_type": "type-VF"},
    {"name": "moving", "vendor_id": "8086", "product_id": "10ed", "device_type": "type-VF", "live_migratable": "true"},
    {"name": "gpu", "vendor_id": "10de", "product_id": "1db4", "device_type": "type-PCI", "numa_policy": "required"},
    {"name": "gpu2", "vendor_id": "10de", "product_id": "1db4", "device_type": "type-PCI", "numa_policy": "preferred"},
    {"name": "gpu3", "vendor_id": "10de", "product_id": "1db4", "device_type": "type-PCI", "numa_policy": "socket"},
    {"name": "either", "vendor_id": "8086", "product_id": "37c8", "device_type": "type-PCI"},
    {"name": "either", "vendor_id": "10de", "product_id": "1db4", "device_type": "type-PCI"},
)
