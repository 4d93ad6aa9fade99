"""What a guest gets from 169.254.169.254, and what lies on its config drive.

Who asks follows from the network whose namespace took the connection and the address it came from: the port with that
address on that network, and the server that has this port. No header counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from nova_fast.model.networks import Port
from nova_fast.model.servers import Server
from nova_fast.model.tasks import MetadataAnswer, MetadataRequest
from nova_fast.queries.metadata_documents import (
    EC2_VERSIONS,
    LATEST,
    OPENSTACK_VERSIONS,
    Facts,
    Tree,
    ec2_meta_data,
    gather,
    meta_data,
    network_data,
)
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
BYTES = "application/octet-stream"
#: On the config drive Nova leaves out the older EC2 versions.
_DRIVE_EC2_VERSIONS = ("2009-04-04", LATEST)

_json = msgspec.json.Encoder().encode


def answer(reader: Reader, request: MetadataRequest) -> MetadataAnswer:
    """The answer to one request of a guest: 200, 404 for what is not there, 405 for another method than GET."""
    if request.method not in ("GET", "HEAD"):
        return MetadataAnswer(status=405, content_type=TEXT, body=b"405 Method Not Allowed\n")
    server = _asking_server(reader, request)
    if server is None:
        return _missing()
    parts = [part for part in request.path.split("?", 1)[0].split("/") if part]
    if parts and parts[0] == "openstack":
        found = _openstack(reader, server, parts[1:])
    else:
        found = _ec2(reader, server, parts)
    if found is None:
        return _missing()
    content_type, body = found
    return MetadataAnswer(status=200, content_type=content_type, body=b"" if request.method == "HEAD" else body)


def config_drive_files(reader: Reader, server: Server, admin_pass: str | None = None) -> dict[str, bytes]:
    """The config drive: path → content. ``admin_pass`` is on the drive only, never in an answer over HTTP."""
    facts = gather(reader, server)
    files: dict[str, bytes] = {}
    for version in (*OPENSTACK_VERSIONS, LATEST):
        for name, (_since, make) in _OPENSTACK_FILES.items():
            content = None if version < _since else make(facts, version)
            if content is not None:
                files[f"openstack/{version}/{name}"] = content
        if admin_pass is not None:
            files[f"openstack/{version}/meta_data.json"] = _json(meta_data(facts, version, admin_pass))
    for version in _DRIVE_EC2_VERSIONS:
        files[f"ec2/{version}/meta-data.json"] = _json(ec2_meta_data(facts, version))
        if facts.user_data is not None:
            files[f"ec2/{version}/user-data"] = facts.user_data
    return files


def _asking_server(reader: Reader, request: MetadataRequest) -> Server | None:
    port: Port | None = reader.find(tables.PORTS_BY_ADDRESS, request.network_id, request.address)
    if port is None or not port.device_id:
        return None
    server = reader.get(tables.SERVERS, port.device_id)
    return server if server is not None and server.project_id == port.project_id else None


def _missing() -> MetadataAnswer:
    return MetadataAnswer(status=404, content_type=TEXT, body=b"404 Not Found\n")


def _lines(rows: list[str]) -> tuple[str, bytes]:
    return TEXT, "\n".join(rows).encode()


def _user_data(facts: Facts, _version: str) -> bytes | None:
    return facts.user_data


#: file → (version since which it is there, how it is made)
_OPENSTACK_FILES: dict[str, tuple[str, Callable[[Facts, str], bytes | None]]] = {
    "meta_data.json": ("2012-08-10", lambda facts, version: _json(meta_data(facts, version))),
    "user_data": ("2012-08-10", _user_data),
    "vendor_data.json": ("2013-10-17", lambda _facts, _version: b"{}"),
    "network_data.json": ("2015-10-15", lambda facts, _version: _json(network_data(facts))),
    "vendor_data2.json": ("2016-10-06", lambda _facts, _version: b"{}"),
}


def _openstack(reader: Reader, server: Server, parts: list[str]) -> tuple[str, bytes] | None:
    if not parts:
        return _lines([*OPENSTACK_VERSIONS, LATEST])
    version = parts[0]
    if (version not in OPENSTACK_VERSIONS and version != LATEST) or len(parts) > 2:
        return None
    facts = gather(reader, server)
    if len(parts) == 1:
        names = [name for name, (since, _make) in _OPENSTACK_FILES.items() if version >= since]
        return _lines([name for name in names if name != "user_data" or facts.user_data is not None])
    since, make = _OPENSTACK_FILES.get(parts[1], ("~", _user_data))
    content = make(facts, version) if version >= since else None
    if content is None:
        return None
    return (JSON if parts[1].endswith(".json") else BYTES), content


def _ec2(reader: Reader, server: Server, parts: list[str]) -> tuple[str, bytes] | None:
    if not parts:
        return _lines([*EC2_VERSIONS, LATEST])
    version = parts[0]
    if version not in EC2_VERSIONS and version != LATEST:
        return None
    facts = gather(reader, server)
    if len(parts) == 1:
        return _lines(["meta-data/"] + (["user-data"] if facts.user_data is not None else []))
    if parts[1] == "user-data" and len(parts) == 2 and facts.user_data is not None:
        return BYTES, facts.user_data
    if parts[1] != "meta-data":
        return None
    return _walk(facts, ec2_meta_data(facts, version), parts[2:])


def _walk(facts: Facts, tree: Tree, path: list[str]) -> tuple[str, bytes] | None:
    node: Any = tree
    for part in path:
        if not isinstance(node, dict) or part not in node:
            return None
        node = node[part]
    if not isinstance(node, dict):
        return TEXT, str(node).encode()
    if path == ["public-keys"]:
        assert facts.server.key is not None, "a server without a key has no public-keys"
        return _lines([f"0={facts.server.key.name}"])
    return _lines([f"{key}/" if isinstance(value, dict) else key for key, value in sorted(node.items())])
