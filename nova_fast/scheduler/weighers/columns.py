"""Weighers of the table's columns: free resources, load, failures, versions."""

from __future__ import annotations

from nova_fast.scheduler.facts import HostState
from nova_fast.scheduler.weighers.kinds import ColumnWeigher

_PCI_DEVICES_MAX = 100  # more free devices than this make no difference


class Ram(ColumnWeigher):
    """Free RAM, without the ratio."""

    name = "RAMWeigher"
    option = "ram_weight_multiplier"
    column = "ram_weight"
    minimum = 0.0

    def raw(self, state: HostState) -> float:
        return state.ram_free_mib


class Cpu(ColumnWeigher):
    """Free vCPUs, with the ratio."""

    name = "CPUWeigher"
    option = "cpu_weight_multiplier"
    column = "cpu_weight"
    minimum = 0.0

    def raw(self, state: HostState) -> float:
        return state.vcpus_total * state.facts.cpu_ratio - state.vcpus_used


class Disk(ColumnWeigher):
    """Free disk, without the ratio. Nova counts in MiB: normalised, that is the same number."""

    name = "DiskWeigher"
    option = "disk_weight_multiplier"
    column = "disk_weight"
    minimum = 0.0

    def raw(self, state: HostState) -> float:
        return state.disk_free_gib


class IoOps(ColumnWeigher):
    """Servers being built."""

    name = "IoOpsWeigher"
    option = "io_ops_weight_multiplier"
    column = "io_ops"
    minimum = 0.0

    def raw(self, state: HostState) -> float:
        return state.io_ops


class Pci(ColumnWeigher):
    """Few free PCI devices: servers that need none stay away from hosts that have many, those that do fill them up."""

    name = "PCIWeigher"
    option = "pci_weight_multiplier"
    column = "pci_free"

    def raw(self, state: HostState) -> float:
        return _PCI_DEVICES_MAX - min(state.pci_free, _PCI_DEVICES_MAX - 1)


class BuildFailure(ColumnWeigher):
    """Servers that could not be built here of late; counts against a host."""

    name = "BuildFailureWeigher"
    option = "build_failure_weight_multiplier"
    column = "failed_builds"
    sign = -1.0

    def raw(self, state: HostState) -> float:
        return state.failed_builds


class HypervisorVersion(ColumnWeigher):
    """Newer hypervisors."""

    name = "HypervisorVersionWeigher"
    option = "hypervisor_version_weight_multiplier"
    column = "hypervisor_version"

    def raw(self, state: HostState) -> float:
        return state.facts.hypervisor_version


class NumInstances(ColumnWeigher):
    """Servers."""

    name = "NumInstancesWeigher"
    option = "num_instances_weight_multiplier"
    column = "servers"

    def raw(self, state: HostState) -> float:
        return state.servers
