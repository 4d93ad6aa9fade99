"""The dullest case there is, to be changed in the one thing that a test is about."""

from __future__ import annotations

import copy
from typing import Any

from .minimise import PLAIN_FLAVOR, PLAIN_HOST, PLAIN_REQUEST

Case = dict[str, Any]

_HOST: Case = {
    **PLAIN_HOST,
    "ram_mib": 8192,
    "host_ip": "10.0.0.1",
    "hypervisor_type": "QEMU",
    "cpu_info": {
        "arch": "x86_64",
        "model": "EPYC-Rome",
        "vendor": "AMD",
        "topology": {"sockets": 1, "cores": 4, "threads": 2},
        "features": ["aes", "avx"],
    },
    "supported_instances": [["x86_64", "kvm", "hvm"], ["x86_64", "qemu", "hvm"]],
    "used": {},
    "metrics": {},
}


def host(name: str, **changes: Any) -> Case:
    number = int(name.rpartition("-")[2])
    return {"name": name, "uuid": f"00000000-0000-4000-8000-{number:012d}", **copy.deepcopy(_HOST), **changes}


def server(number: int, on: str, group: str = "", **properties: str) -> Case:
    return {"id": f"5e000000-0000-4000-8000-{number:012d}", "host": on, "group": group, "properties": properties}


def aggregate(hosts: list[str], **metadata: str) -> Case:
    number = sum(map(ord, "".join(hosts) + "".join(metadata)))
    return {
        "uuid": f"a9000000-0000-4000-8000-{number:012d}",
        "name": f"aggregate-{number}",
        "hosts": hosts,
        "metadata": metadata,
    }


def case(hosts: list[Case], **changes: Any) -> Case:
    """A request for one vCPU and one MiB; ``extra_specs`` are the flavor's, ``properties`` the image's."""
    flavor = {"name": "m1.small", **PLAIN_FLAVOR, "extra_specs": changes.pop("extra_specs", {})}
    request = {
        "server_id": "5e000000-0000-4000-8000-000000000000",
        "project_id": "p1",
        "image": {"id": "image", "properties": changes.pop("properties", {})},
        "hints": {},
        **PLAIN_REQUEST,
        "flavor": flavor,
        **changes.pop("request", {}),
    }
    plain = {"options": {}, "filters": [], "aggregates": [], "servers": []}
    return {**plain, "hosts": hosts, "request": request, **changes}
