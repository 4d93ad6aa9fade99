"""The configuration: one TOML file, read into one Struct, everything defaulted.

This file is the one place that names, defaults and describes an option; ``docs/configuration.md`` is made from it.
Every room may read it.
"""

from __future__ import annotations

import os
import socket
import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

PORT_MAX = 65535
Port = Annotated[int, Meta(ge=1, le=PORT_MAX)]
Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]
Ratio = Annotated[float, Meta(gt=0)]
Limit = Annotated[int, Meta(ge=0)]
Weight = Annotated[float, Meta(ge=0)]

#: Nova's own, in its order.
ENABLED_FILTERS = (
    "ComputeFilter",
    "ComputeCapabilitiesFilter",
    "ImagePropertiesFilter",
    "ServerGroupAntiAffinityFilter",
    "ServerGroupAffinityFilter",
)


class _Section(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    pass


class ApiConfig(_Section, frozen=True):
    """The REST faces."""

    listen: str = "127.0.0.1"  # address all faces listen on
    public_host: str = ""  # host in the catalog; "" = the address listened on
    identity_port: Port = 5000  # Identity v3
    compute_port: Port = 8774  # Compute v2.1
    image_port: Port = 9292  # Image v2
    network_port: Port = 9696  # Network v2.0
    placement_port: Port = 8778  # Placement
    workers: Annotated[int, Meta(ge=0)] = 0  # processes; 0 = one for every two cores
    max_body_bytes: Positive = 1 << 20  # of a JSON request
    max_limit: Positive = 1000  # rows in one page
    token_lifetime_s: Seconds = 3600  # how long a token is good


class ImageConfig(_Section, frozen=True):
    """The image store."""

    max_image_bytes: Positive = 64 << 30  # a larger upload is refused


class HubConfig(_Section, frozen=True):
    """Where the daemons meet."""

    address: str = ""  # "" = a socket in the run folder; tcp://host:port = CURVE over TCP beside it
    heartbeat_s: Seconds = 5  # between two reports of a daemon
    down_after_s: Seconds = 20  # a daemon silent for so long is down
    credits: Positive = 256  # calls a daemon may have under way


class SdkConfig(_Section, frozen=True):
    """The door for clients of the ZeroMQ SDK, one in each API worker."""

    address: str = ""  # "" = sockets in the run folder; tcp://host:port = CURVE over TCP, worker n at port + n
    credits: Positive = 64  # messages a client may have under way, each of up to 64 requests
    clients_max: Positive = 1000  # of one worker


class ConductorConfig(_Section, frozen=True):
    """Long operations."""

    task_timeout_s: Seconds = 300  # for one step of a workflow


class SchedulerConfig(_Section, frozen=True):
    """Choosing hosts; names and meanings are Nova's. An aggregate may override multipliers in its metadata."""

    policy: str = "filter"  # filter, simple, chance, zone
    host_subset_size: Positive = 1  # choose at random among so many best hosts
    shuffle_best_same_weighed_hosts: bool = False  # choose at random among equally good hosts
    enabled_filters: tuple[str, ...] = ENABLED_FILTERS  # in this order
    weight_classes: tuple[str, ...] = ("nova.scheduler.weights.all_weighers",)  # all of ours; a name = that one
    ram_weight_multiplier: float = 1.0  # of free RAM
    cpu_weight_multiplier: float = 1.0  # of free vCPUs
    disk_weight_multiplier: float = 1.0  # of free disk
    io_ops_weight_multiplier: float = -1.0  # of servers being built
    pci_weight_multiplier: Weight = 1.0  # of PCI devices that stay free
    metrics_weight_multiplier: float = 1.0  # of what monitors measure
    soft_affinity_weight_multiplier: Weight = 1.0  # of members of the server's group
    soft_anti_affinity_weight_multiplier: Weight = 1.0  # the same, against them
    build_failure_weight_multiplier: float = 1000000.0  # against hosts where servers could not be built
    cross_cell_move_weight_multiplier: float = 1000000.0  # there is one cell: no effect
    hypervisor_version_weight_multiplier: float = 1.0  # of newer hypervisors
    num_instances_weight_multiplier: float = 0.0  # of servers
    image_props_weight_multiplier: float = 0.0  # of servers whose image has the same properties
    image_props_weight_setting: tuple[str, ...] = ()  # name=ratio of image properties; empty = all count 1
    max_io_ops_per_host: Limit = 8  # IoOpsFilter: servers being built
    max_instances_per_host: Positive = 50  # NumInstancesFilter: servers
    isolated_images: tuple[str, ...] = ()  # IsolatedHostsFilter: images that run on isolated hosts only
    isolated_hosts: tuple[str, ...] = ()  # IsolatedHostsFilter: hosts for them
    restrict_isolated_hosts_to_isolated_images: bool = True  # IsolatedHostsFilter: other images keep out
    image_properties_default_architecture: str = ""  # ImagePropertiesFilter: of images that name none; "" = any
    aggregate_image_properties_isolation_namespace: str = ""  # only metadata keys that begin so are looked at
    aggregate_image_properties_isolation_separator: str = "."  # between that and the rest of the key
    metrics_weight_setting: tuple[str, ...] = ()  # name=ratio of metrics
    metrics_required: bool = True  # a host without one of them is an error; MetricsFilter keeps such hosts out
    metrics_weight_of_unavailable: float = -10000.0  # else: the weight of a host without one of them
    pci_alias: tuple[str, ...] = ()  # what flavors may call PCI devices, each in JSON as Nova's [pci]alias
    disable_fallback_pcpu_query: bool = (
        False  # hosts that keep no CPUs for one server each will not do for hw:cpu_policy
    )
    enable_isolated_aggregate_filtering: bool = False  # aggregates with trait:X=required take only servers that ask so
    image_metadata_prefilter: bool = False  # hosts must have the traits of the image's buses and models


class ComputeConfig(_Section, frozen=True):
    """The hosts that run guests."""

    driver: str = "libvirt"  # libvirt, fake
    zone: str = "nova"  # the availability zone of this host
    libvirt_uri: str = "qemu:///system"  # where libvirt answers
    virt_type: str = ""  # "" = found out; kvm, qemu
    instances_dir: str = ""  # "" = instances in the state folder
    stop_grace_s: Seconds = 10  # for a guest to shut itself down
    reserved_ram_mib: Annotated[int, Meta(ge=0)] = 512  # kept for the machine itself
    cpu_shared_set: str = ""  # CPUs that servers share, like 0-3,^1; "" = all, or none with cpu_dedicated_set
    cpu_dedicated_set: str = ""  # CPUs kept for servers with CPUs of their own: the host's PCPU
    compute_monitors: tuple[str, ...] = ()  # what else a host tells: cpu.virt_driver, for MetricsWeigher
    pci_device_spec: tuple[str, ...] = ()  # PCI devices servers may have, each in JSON as Nova's [pci]device_spec
    reserved_huge_pages: tuple[str, ...] = ()  # kept for others than servers: node:0,size:2048,count:64
    cpu_allocation_ratio: Ratio = 4.0  # vCPUs given out for each one there is
    ram_allocation_ratio: Ratio = 1.0  # the same for RAM
    disk_allocation_ratio: Ratio = 1.0  # the same for disk
    fake_hosts: Positive = 1  # hosts one fake daemon plays
    fake_delay_s: Annotated[float, Meta(ge=0)] = 0.0  # of each fake operation
    fake_vcpus: Positive = 1000  # of each fake host
    fake_ram_mib: Positive = 4_000_000  # of each fake host
    fake_disk_gib: Positive = 100_000  # of each fake host
    fake_numa_cells: Limit = 0  # over which these are spread; 0 = it tells of none
    fake_threads_per_core: Positive = 1  # of each fake host with cells
    fake_huge_pages: Limit = 0  # of 2 MiB in each of its cells
    fake_pci_devices: Limit = 0  # 8086:0443 of each fake host, in turn near its cells


class ImageCacheConfig(_Section, frozen=True):
    """The images a host keeps for its guests; names and meanings are Nova's."""

    manager_interval: Annotated[int, Meta(ge=-1)] = 2400  # seconds between two looks; 0 = 60, -1 = never
    remove_unused_base_images: bool = True  # remove images that no server of the host uses
    remove_unused_original_minimum_age_seconds: Limit = 86400  # unless one has used them in this time


class NetworkConfig(_Section, frozen=True):
    """The networks of a host."""

    driver: str = "linux"  # linux, fake
    external_bridge: str = "nfext"  # the bridge the routers go out by
    external_cidr: str = "172.30.0.0/24"  # between the routers and this machine
    dns_nameservers: list[str] = []  # for subnets that name none; empty = none are announced


class Config(_Section, frozen=True):
    """All options."""

    state_dir: str = "var"  # everything the cloud keeps
    host: str = ""  # this machine's name in the cloud; "" = its host name
    region: str = "RegionOne"  # the region of the catalog
    log_level: str = "INFO"  # DEBUG, INFO, WARNING or ERROR
    api: ApiConfig = ApiConfig()
    image: ImageConfig = ImageConfig()
    hub: HubConfig = HubConfig()
    sdk: SdkConfig = SdkConfig()
    conductor: ConductorConfig = ConductorConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    compute: ComputeConfig = ComputeConfig()
    image_cache: ImageCacheConfig = ImageCacheConfig()
    network: NetworkConfig = NetworkConfig()

    @property
    def state_path(self) -> Path:
        return Path(self.state_dir).resolve()

    @property
    def store_path(self) -> Path:
        return self.state_path / "store"

    @property
    def run_path(self) -> Path:
        """Sockets and pid files."""
        return self.state_path / "run"

    @property
    def log_path(self) -> Path:
        return self.state_path / "log"

    @property
    def images_path(self) -> Path:
        return self.state_path / "images"

    @property
    def instances_path(self) -> Path:
        return (
            Path(self.compute.instances_dir).resolve() if self.compute.instances_dir else self.state_path / "instances"
        )

    @property
    def host_name(self) -> str:
        return self.host or socket.gethostname()

    @property
    def played_hosts(self) -> list[str]:
        """The hosts this machine is in the cloud: one, or as many as fake daemons play."""
        count = self.compute.fake_hosts if self.compute.driver == "fake" else 1
        return [self.host_name] if count == 1 else [f"{self.host_name}-{n:05d}" for n in range(1, count + 1)]

    @property
    def hub_address(self) -> str:
        """What the conductor binds, and the daemons of other machines connect to."""
        return self.hub.address or f"ipc://{self.run_path}/hub.sock"

    @property
    def hub_local_address(self) -> str:
        """What it binds for the daemons of its own machine beside a tcp address; "" = there is none."""
        return f"ipc://{self.run_path}/hub.sock" if self.hub_address.startswith("tcp://") else ""

    @property
    def sdk_keys_path(self) -> Path:
        """The keys of the door for the SDK over tcp."""
        return self.state_path / "keys" / "sdk"

    def sdk_address(self, worker: int) -> str:
        """Where an API worker meets clients of the SDK. Raises ConfigError."""
        address = self.sdk.address
        if not address:
            return f"ipc://{self.run_path}/sdk-{worker}.sock"
        if address.startswith("ipc://"):
            return f"{address}-{worker}"
        if not address.startswith("tcp://"):
            raise ConfigError(f"sdk.address: {address!r} is neither ipc://path nor tcp://host:port")
        host, _, port = address.rpartition(":")
        if not port.isdecimal() or not 1 <= int(port) + worker <= PORT_MAX:
            raise ConfigError(f"sdk.address: {address!r} has no port between 1 and {PORT_MAX - self.worker_count + 1}")
        return f"{host}:{int(port) + worker}"

    @property
    def public_host(self) -> str:
        if self.api.public_host:
            return self.api.public_host
        return "127.0.0.1" if self.api.listen in ("0.0.0.0", "") else self.api.listen  # noqa: S104 - compared only

    @property
    def worker_count(self) -> int:
        return self.api.workers or max(1, (os.cpu_count() or 1) // 2)


class ConfigError(Exception):
    """The file cannot be used; the message names the option."""


def load(path: str | Path | None) -> Config:
    """Read a TOML file; ``None`` gives the defaults. Raises ConfigError that names the file and the option."""
    if path is None:
        return Config()
    try:
        data = tomllib.loads(Path(path).read_text())
        return msgspec.convert(data, Config, strict=True)
    except OSError as e:
        raise ConfigError(f"cannot read {path}: {e.strerror}") from e
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: {e}") from e
