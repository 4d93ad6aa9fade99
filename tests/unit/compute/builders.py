"""Guests for tests."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from nova_fast.model.tasks import Guest, GuestImage, GuestNic

SERVER_ID = "0f0e0d0c-1111-4222-8333-444455556666"
IMAGE_ID = "aaaaaaaa-1111-4222-8333-444455556666"


def an_image(path: Path | None = None, disk_format: str = "qcow2", **fields: Any) -> GuestImage:
    content = path.read_bytes() if path is not None and path.exists() else b""
    values: dict[str, Any] = {
        "id": IMAGE_ID,
        "path": str(path or "/nowhere"),
        "size": len(content),
        "sha512": hashlib.sha512(content).hexdigest(),
        "disk_format": disk_format,
    }
    return GuestImage(**(values | fields))


def a_nic(**fields: Any) -> GuestNic:
    values: dict[str, Any] = {
        "port_id": "p1",
        "mac_address": "fa:16:3e:00:00:01",
        "bridge": "nfbr1",
        "tap": "tap01234567-89",
        "mtu": 1450,
    }
    return GuestNic(**(values | fields))


def a_guest(**fields: Any) -> Guest:
    values: dict[str, Any] = {
        "server_id": SERVER_ID,
        "domain_name": "instance-00000001",
        "name": "web",
        "project_id": "project",
        "user_id": "user",
        "vcpus": 2,
        "ram_mib": 512,
        "root_disk_gib": 1,
        "ephemeral_gib": 0,
        "swap_mib": 0,
        "image": an_image(),
        "nics": (),
    }
    return Guest(**(values | fields))
