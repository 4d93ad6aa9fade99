"""A case as our own records: hosts, facts, the request, the options, and who is where."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from typing import Any

from nova_fast.config import SchedulerConfig
from nova_fast.model.aggregates import Aggregate
from nova_fast.model.flavors import Flavor
from nova_fast.model.hosts import (
    Claim,
    Host,
    HostResources,
    HostUsage,
    Inventory,
    capacity,
    claim_of,
)
from nova_fast.model.tasks import GroupRule, PlacementRequest
from nova_fast.model.topology import NumaCell, Pages, PciPool
from nova_fast.scheduler.facts import HostState, Network, Offer, facts_of
from nova_fast.scheduler.image_properties import property_texts

Case = dict[str, Any]

_PREFIXES = {"filter_scheduler": "", "scheduler": "", "metrics": "metrics_", "pci": "pci_"}


def options_of(case: Case) -> SchedulerConfig:
    """The options under our names. Entries of lists that Nova passes over, ours does not take: they are left out."""
    chosen: Case = {"enabled_filters": tuple(case["filters"]), "disable_fallback_pcpu_query": True}
    for path, value in case["options"].items():
        section, name = path.split(".")
        if name.endswith("weight_setting"):
            value = [entry for entry in value if _is_setting(entry)]
        chosen[_PREFIXES[section] + name] = tuple(value) if isinstance(value, list) else value
    return SchedulerConfig(**chosen)


def _is_setting(entry: str) -> bool:
    name, _equals, text = entry.partition("=")
    try:
        return bool(name) and float(text) == float(text)
    except ValueError:
        return False


class World:
    """One case; it is the ``Fleet`` that filters look at, too."""

    def __init__(self, case: Case, options: SchedulerConfig) -> None:
        self.request = request_of(case)
        self._servers: list[Case] = case["servers"]
        isolated = frozenset(options.isolated_hosts)
        aggregates = [aggregate_of(number, aggregate) for number, aggregate in enumerate(case["aggregates"], 1)]
        self._hosts: dict[str, tuple[Host, HostUsage]] = {}
        self.states: list[HostState] = []
        for entry in case["hosts"]:
            host, usage = host_of(entry), usage_of(entry)
            self._hosts[host.name] = (host, usage)
            joined = [aggregate for aggregate in aggregates if host.name in aggregate.hosts]
            self.states.append(self._state(entry, host, usage, facts_of(host, joined, isolated)))

    def _state(self, entry: Case, host: Host, usage: HostUsage, facts: Any) -> HostState:
        resources, total = host.resources, capacity(host)
        here = [server for server in self._servers if server["host"] == host.name]
        return HostState(
            name=host.name,
            facts=facts,
            uuid=host.uuid,
            host_ip=resources.host_ip,
            up=host.up and not host.forced_down,
            enabled=host.enabled,
            vcpus_total=resources.vcpus,
            vcpus_used=usage.vcpus + host.reserved_vcpus,
            ram_total_mib=resources.ram_mib,
            ram_free_mib=resources.ram_mib - host.reserved_ram_mib - usage.ram_mib,
            disk_total_gib=resources.disk_gib,
            disk_free_gib=resources.disk_gib - host.reserved_disk_gib - usage.disk_gib,
            room=Claim(
                vcpus=total.vcpus - usage.vcpus,
                ram_mib=total.ram_mib - usage.ram_mib,
                disk_gib=total.disk_gib - usage.disk_gib,
            ),
            io_ops=entry["io_ops"],
            servers=usage.servers,
            failed_builds=host.failed_builds,
            pci_free=sum(pool["count"] for pool in entry["pci"]),
            metrics=resources.metrics,
            numa=resources.numa,
            pci=resources.pci,
            image_properties=Counter(text for server in here for text in property_texts(server["properties"])),
        )

    def hosts_of(self, server_ids: Iterable[str]) -> Set[str]:
        wanted = set(server_ids)
        return {server["host"] for server in self._servers if server["id"] in wanted}

    def members(self, group_id: str) -> Mapping[str, int]:
        return Counter(server["host"] for server in self._servers if server["group"] == group_id)

    def hosts_within(self, network: Network) -> Set[str]:
        addresses = {name: host.resources.host_ip for name, (host, _usage) in self._hosts.items()}
        return {name for name, address in addresses.items() if address and ipaddress.ip_address(address) in network}

    def sharing(self, vcpus: int) -> Set[str]:
        return frozenset()

    def offers(self, resource_class: str) -> Mapping[str, Offer]:
        found = {}
        for name, (host, usage) in self._hosts.items():
            for stock in host.inventories:
                if stock.resource_class == resource_class:
                    total = int((stock.total - stock.reserved) * stock.allocation_ratio)
                    free = total - usage.resources.get(resource_class, 0)
                    found[name] = Offer(free, stock.min_unit, stock.max_unit, stock.step_size)
        return found


def aggregate_of(number: int, aggregate: Case) -> Aggregate:
    return Aggregate(
        id=aggregate["uuid"],
        number=number,
        name=aggregate["name"],
        created_at_us=0,
        hosts=tuple(aggregate["hosts"]),
        metadata=aggregate["metadata"],
    )


def host_of(entry: Case) -> Host:
    """Some traits are vouched for by the driver, the others are an operator's word."""
    return Host(
        name=entry["name"],
        uuid=entry["uuid"],
        service_uuid=entry["uuid"],
        number=1,
        zone="of its own",  # the zones of the cases are aggregates
        resources=_resources(entry),
        created_at_us=0,
        reported_at_us=0,
        up=entry["up"],
        enabled=entry["enabled"],
        forced_down=entry["forced_down"],
        cpu_ratio=entry["cpu_ratio"],
        ram_ratio=entry["ram_ratio"],
        disk_ratio=entry["disk_ratio"],
        reserved_vcpus=entry["reserved_vcpus"],
        reserved_ram_mib=entry["reserved_ram_mib"],
        reserved_disk_gib=entry["reserved_disk_gib"],
        failed_builds=entry["failed_builds"],
        traits=tuple(entry["traits"][1::2]),
        inventories=tuple(Inventory(**stock) for stock in entry["inventories"]),
    )


def _resources(entry: Case) -> HostResources:
    info = entry["cpu_info"]
    flat = {name: info[name] for name in ("arch", "model", "vendor")}
    flat |= {name: str(value) for name, value in info["topology"].items()}
    if "maxphysaddr" in info:
        flat["maxphysaddr_bits"] = str(info["maxphysaddr"]["bits"])
    return HostResources(
        vcpus=entry["vcpus"],
        ram_mib=entry["ram_mib"],
        disk_gib=entry["disk_gib"],
        architecture=info["arch"],
        hypervisor_type=entry["hypervisor_type"],
        hypervisor_version=entry["hypervisor_version"],
        virt_type="kvm",
        cpu_info=flat,
        host_ip=entry["host_ip"],
        supported_instances=tuple((a, t, m) for a, t, m in entry["supported_instances"]),
        traits=tuple(entry["traits"][::2]),
        features=tuple(info["features"]),
        metrics=entry["metrics"],
        numa=tuple(_cell(cell) for cell in entry["numa"] or ()),
        pci=tuple(_pool(pool) for pool in entry["pci"]),
    )


def _cell(cell: Case) -> NumaCell:
    return NumaCell(
        number=cell["id"],
        shared_cpus=tuple(cell["shared_cpus"]),
        dedicated_cpus=tuple(cell["dedicated_cpus"]),
        pinned_cpus=tuple(cell["pinned_cpus"]),
        siblings=tuple(map(tuple, cell["siblings"])),
        ram_mib=cell["ram_mib"],
        ram_used_mib=cell["ram_used_mib"],
        vcpus_used=cell["vcpus_used"],
        pages=tuple(
            Pages(pages["size_kb"], pages["total"], pages["used"], pages["reserved"]) for pages in cell["pages"]
        ),
        socket=cell["socket"],
    )


def _pool(pool: Case) -> PciPool:
    tags = {**pool}
    own = {name: tags.pop(name) for name in ("vendor_id", "product_id", "count", "numa_node")}
    return PciPool(device_type=tags.pop("dev_type"), tags=tags, **own)


def usage_of(entry: Case) -> HostUsage:
    return HostUsage(
        host=entry["name"],
        vcpus=entry["vcpus_used"],
        ram_mib=entry["ram_used_mib"],
        disk_gib=entry["disk_used_gib"],
        servers=entry["servers"],
        resources=entry["used"],
    )


def request_of(case: Case) -> PlacementRequest:
    """What the conductor makes of a server that was asked for."""
    request = case["request"]
    flavor, image, group = request["flavor"], request["image"] or {"id": "", "properties": {}}, request["group"]
    claim = claim_of(Flavor(id=flavor["name"], **flavor), image["properties"])
    return PlacementRequest(
        server_id=request["server_id"],
        claim=claim,
        zone=request["zone"],
        architecture=image["properties"].get("hw_architecture", ""),
        excluded_hosts=tuple(request["excluded_hosts"]),
        requested_host=request["requested_host"],
        hints=request["hints"],
        extra_specs=flavor["extra_specs"],
        image_properties=image["properties"],
        project_id=request["project_id"],
        flavor_name=flavor["name"],
        image_id=image["id"],
        vcpus=flavor["vcpus"],
        ram_mib=flavor["ram_mib"],
        group=group and GroupRule(group["id"], group["policy"], group["max_servers_per_host"] or 1),
    )
