"""Quotas: how much a project may have, and how much it has."""

from __future__ import annotations

from nova_fast.model.base import Record

UNLIMITED = -1

#: resource → default limit; the order is that of error messages.
COMPUTE_DEFAULTS: dict[str, int] = {
    "instances": 10,
    "cores": 20,
    "ram": 51200,
    "metadata_items": 128,
    "key_pairs": 100,
    "server_groups": 10,
    "server_group_members": 10,
    "injected_files": 5,
    "injected_file_content_bytes": 10240,
    "injected_file_path_bytes": 255,
}
NETWORK_DEFAULTS: dict[str, int] = {
    "network": 100,
    "subnet": 100,
    "port": 500,
    "router": 10,
    "floatingip": 50,
    "security_group": 10,
    "security_group_rule": 100,
    "rbac_policy": 10,
    "subnetpool": -1,
    "trunk": -1,
}


class Quota(Record, frozen=True):
    """The limits of one project that differ from the defaults; ``network:`` prefixes the network service's."""

    project_id: str
    limits: dict[str, int] = {}


class Usage(Record, frozen=True):
    """What a project has; changed in the transactions that create and delete, so it cannot drift."""

    project_id: str
    instances: int = 0
    cores: int = 0
    ram: int = 0
    networks: int = 0
    subnets: int = 0
    ports: int = 0
    security_groups: int = 0
    security_group_rules: int = 0
    server_groups: int = 0
