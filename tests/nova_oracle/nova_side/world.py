"""A case as Nova's own objects: host states, aggregates, instances, groups, the request and its options.

A case is plain data (see ``tests/nova_oracle/generate``). Where Nova would read its database, it is given what the
database would say.
"""

from __future__ import annotations

import contextlib
import datetime
import json
from typing import Any

import nova.conf
from nova import context, objects
from nova.pci import request as pci_request
from nova.scheduler import request_filter
from nova.scheduler.host_manager import HostState
from nova.virt import hardware
from oslo_utils import timeutils

CONF = nova.conf.CONF
MIB_PER_GIB = 1024

Case = dict[str, Any]


def prepare() -> None:
    """Once in the life of a process: options at their defaults, objects registered, no database asked."""
    CONF([], project="nova", default_config_files=[], default_config_dirs=[])
    objects.register_all()
    context.target_cell = _no_cell
    objects.CellMapping.get_by_uuid = staticmethod(lambda _context, uuid: objects.CellMapping(uuid=uuid))
    objects.InstanceList.fill_metadata = lambda _self: None
    request_filter._should_filter_by_owner = lambda _context: False  # a trait that all of Nova's hosts have


@contextlib.contextmanager
def _no_cell(nova_context: Any, _cell: Any) -> Any:
    yield nova_context


def apply_options(case: Case) -> None:
    """Set what the case sets, and everything else back to its default."""
    CONF.clear_override("alias", group="pci")
    for section in ("filter_scheduler", "metrics", "scheduler"):
        for name in CONF[section]:
            CONF.clear_override(name, group=section)
    for path, value in case["options"].items():
        section, name = path.split(".")
        CONF.set_override(name, value, group=section)


def aggregates_of(case: Case) -> list[objects.Aggregate]:
    """The aggregates, and what Nova's request filters find of them in the database."""
    made = [_aggregate(number, aggregate) for number, aggregate in enumerate(case["aggregates"], 1)]

    def by_metadata(_context: Any, key: str | None = None, value: str | None = None) -> list[objects.Aggregate]:
        return [
            aggregate
            for aggregate in made
            if any(key in (None, name) and value in (None, text) for name, text in aggregate.metadata.items())
        ]

    def not_matching(_context: Any, ignored: list[str], prefix: str, value: str) -> list[objects.Aggregate]:
        return [
            aggregate
            for aggregate in made
            if any(
                name.startswith(prefix) and text == value and name not in ignored
                for name, text in aggregate.metadata.items()
            )
        ]

    objects.AggregateList.get_by_metadata = staticmethod(by_metadata)
    objects.AggregateList.get_non_matching_by_metadata_keys = staticmethod(not_matching)
    return made


def host_states(case: Case, aggregates: list[objects.Aggregate]) -> list[HostState]:
    """What ``HostManager`` makes of the compute nodes."""
    servers: dict[str, list[Case]] = {}
    for server in case["servers"]:
        servers.setdefault(server["host"], []).append(server)
    states = []
    for host in case["hosts"]:
        name = host["name"]
        state = HostState(name, name, "00000000-0000-0000-0000-00000000ce11")
        state.update(
            compute=_compute_node(host),
            service=_service(host),
            aggregates=[aggregate for aggregate in aggregates if name in aggregate.hosts],
            inst_dict={server["id"]: _instance(server) for server in servers.get(name, ())},
        )
        states.append(state)
    return states


def _compute_node(host: Case) -> objects.ComputeNode:
    ram_used = host["ram_used_mib"] + host["reserved_ram_mib"]
    disk_used = host["disk_used_gib"] + host["reserved_disk_gib"]
    return objects.ComputeNode(
        id=1,
        uuid=host["uuid"],
        host=host["name"],
        hypervisor_hostname=host["name"],
        vcpus=host["vcpus"],
        vcpus_used=host["vcpus_used"] + host["reserved_vcpus"],
        memory_mb=host["ram_mib"],
        memory_mb_used=ram_used,
        free_ram_mb=host["ram_mib"] - ram_used,
        local_gb=host["disk_gib"],
        local_gb_used=disk_used,
        free_disk_gb=host["disk_gib"] - disk_used,
        disk_available_least=None,
        updated_at=None,
        hypervisor_type=host["hypervisor_type"],
        hypervisor_version=host["hypervisor_version"],
        cpu_info=json.dumps(host["cpu_info"]),
        host_ip=host["host_ip"] or None,
        supported_hv_specs=[objects.HVSpec.from_list(spec) for spec in host["supported_instances"]],
        stats={
            "num_instances": str(host["servers"]),
            "io_workload": str(host["io_ops"]),
            "failed_builds": str(host["failed_builds"]),
        },
        metrics=json.dumps(
            [
                {"name": name, "value": value, "timestamp": "2026-01-01T00:00:00.000000", "source": "oracle"}
                for name, value in host["metrics"].items()
            ]
        ),
        numa_topology=_numa_json(host["numa"]),
        pci_device_pools=_pools(host["pci"]),
        cpu_allocation_ratio=host["cpu_ratio"],
        ram_allocation_ratio=host["ram_ratio"],
        disk_allocation_ratio=host["disk_ratio"],
    )


def _numa_json(cells: list[Case] | None) -> str | None:
    if not cells:
        return None
    return objects.NUMATopology(
        cells=[
            objects.NUMACell(
                id=cell["id"],
                socket=cell["socket"],
                cpuset=set(cell["shared_cpus"]),
                pcpuset=set(cell["dedicated_cpus"]),
                pinned_cpus=set(cell["pinned_cpus"]),
                siblings=[set(siblings) for siblings in cell["siblings"]],
                memory=cell["ram_mib"],
                memory_usage=cell["ram_used_mib"],
                cpu_usage=cell["vcpus_used"],
                mempages=[objects.NUMAPagesTopology(**pages) for pages in cell["pages"]],
                network_metadata=objects.NetworkMetadata(physnets=set(), tunneled=False),
            )
            for cell in cells
        ]
    )._to_json()


def _pools(pools: list[Case]) -> objects.PciDevicePoolList | None:
    if not pools:
        return None
    return objects.PciDevicePoolList(objects=[objects.PciDevicePool.from_dict(pool) for pool in pools])


def _service(host: Case) -> Case:
    quiet_s = 0 if host["up"] else CONF.service_down_time + 60
    seen = timeutils.utcnow() - datetime.timedelta(seconds=quiet_s)
    return {
        "host": host["name"],
        "binary": "nova-compute",
        "disabled": not host["enabled"],
        "disabled_reason": None,
        "forced_down": host["forced_down"],
        "last_seen_up": seen,
        "created_at": seen,
    }


def _aggregate(number: int, aggregate: Case) -> objects.Aggregate:
    return objects.Aggregate(
        id=number,
        uuid=aggregate["uuid"],
        name=aggregate["name"],
        hosts=list(aggregate["hosts"]),
        metadata=dict(aggregate["metadata"]),
    )


def _instance(server: Case) -> objects.Instance:
    metadata = {f"image_{name}": value for name, value in server["properties"].items()}
    return objects.Instance(context.get_admin_context(), uuid=server["id"], system_metadata=metadata, image_ref="")


def request_spec(case: Case) -> objects.RequestSpec:
    """What Nova's API and conductor make of a request; raises whatever they raise for one they refuse."""
    request = case["request"]
    flavor = _flavor(request)
    image = _image(request)
    hints = request["hints"]
    spec = objects.RequestSpec(
        context.get_admin_context(),
        id=1,
        instance_uuid=request["server_id"],
        project_id=request["project_id"],
        user_id="oracle",
        flavor=flavor,
        image=image,
        num_instances=1,
        availability_zone=request["zone"] or None,
        ignore_hosts=list(request["excluded_hosts"]),
        force_hosts=None,
        force_nodes=None,
        requested_destination=_destination(request),
        retry=None,
        limits=objects.SchedulerLimits(),
        instance_group=_group(case),
        scheduler_hints={name: value if isinstance(value, list) else [value] for name, value in hints.items()},
        is_bfv=False,
        numa_topology=hardware.numa_get_constraints(flavor, image),
        pci_requests=pci_request.get_pci_requests_from_flavor(
            flavor, affinity_policy=hardware.get_pci_numa_policy_constraint(flavor, image)
        ),
    )
    spec.security_groups = objects.SecurityGroupList(objects=[])
    if spec.numa_topology is None:
        # NUMATopologyFilter copies the request for each host, because a fit writes into its topology; here is none.
        object.__setattr__(spec, "obj_clone", lambda: spec)
    return spec


def _flavor(request: Case) -> objects.Flavor:
    flavor = request["flavor"]
    return objects.Flavor(
        id=1,
        flavorid=flavor["name"],
        name=flavor["name"],
        vcpus=flavor["vcpus"],
        memory_mb=flavor["ram_mib"],
        root_gb=flavor["disk_gib"],
        ephemeral_gb=flavor["ephemeral_gib"],
        swap=flavor["swap_mib"],
        rxtx_factor=1.0,
        vcpu_weight=0,
        disabled=False,
        is_public=True,
        extra_specs=dict(flavor["extra_specs"]),
    )


def _image(request: Case) -> objects.ImageMeta:
    image = request["image"]
    if image is None:  # booted from a volume: Nova makes an image without an id of what the volume says
        return objects.ImageMeta(name="", properties=objects.ImageMetaProps())
    return objects.ImageMeta.from_dict({"id": image["id"], "name": "image", "properties": dict(image["properties"])})


def _destination(request: Case) -> objects.Destination | None:
    if not request["requested_host"]:
        return None
    return objects.Destination(host=request["requested_host"], node=request["requested_host"])


def _group(case: Case) -> objects.InstanceGroup | None:
    """The group as ``setup_instance_group`` fills it in: its members, and the hosts these are on."""
    group = case["request"]["group"]
    if group is None:
        return None
    members = [server for server in case["servers"] if server["group"] == group["id"]]
    rules = {"max_server_per_host": str(group["max_servers_per_host"])} if group["max_servers_per_host"] else {}
    return objects.InstanceGroup(
        uuid=group["id"],
        policy=group["policy"],
        policies=[group["policy"]],
        rules=rules,
        members=[server["id"] for server in members] + [case["request"]["server_id"]],
        hosts=sorted({server["host"] for server in members}),
    )
