"""What clients send about servers: the shapes, and from which microversion to which each field exists.

A field that the request's version does not know is refused like any unknown one. Source: the request schemas of
``POST /servers``, ``PUT /servers/{id}`` and the actions (Nova 2.1 to 2.96).
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from nova_fast.api.compute.server_hints import Hints, read_hints
from nova_fast.api.framework.request import Request
from nova_fast.model.commands.servers import RequestedNic
from nova_fast.model.errors import BadRequest
from nova_fast.model.words import FALSE_WORDS, TRUE_WORDS

NAME_CHARACTERS_MAX = 255
USER_DATA_BYTES_MAX = 65535
COUNT_MAX = 10_000
_UUID = re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
_HOSTNAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?")
_TAG = re.compile(r"[^,/]{1,60}")
_FQDN_CHARACTERS_MAX = 255

Text255 = Annotated[str, Meta(max_length=NAME_CHARACTERS_MAX)]
Metadata = dict[Annotated[str, Meta(min_length=1, max_length=255)], Text255]
Tag = Annotated[str, Meta(min_length=1, max_length=60, pattern="^[^,/]*$")]
Boolean = bool | str | int
DiskConfig = Literal["AUTO", "MANUAL"]


class GroupName(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=255)]


class ServerFields(
    msgspec.Struct,
    forbid_unknown_fields=True,
    kw_only=True,
    rename={
        "image_ref": "imageRef",
        "flavor_ref": "flavorRef",
        "admin_pass": "adminPass",
        "disk_config": "OS-DCF:diskConfig",
        "access_ip_v4": "accessIPv4",
        "access_ip_v6": "accessIPv6",
    },
):
    """The ``server`` object of a create request."""

    name: str
    flavor_ref: str | int
    image_ref: Any = UNSET
    admin_pass: str | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET
    networks: Any = UNSET
    disk_config: DiskConfig | UnsetType = UNSET
    access_ip_v4: str | UnsetType = UNSET
    access_ip_v6: str | UnsetType = UNSET
    personality: list[Any] | UnsetType = UNSET
    availability_zone: str | UnsetType = UNSET
    block_device_mapping: list[Any] | UnsetType = UNSET
    block_device_mapping_v2: list[Any] | UnsetType = UNSET
    config_drive: Boolean | UnsetType | None = UNSET
    key_name: Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType | None = UNSET
    min_count: int | str | UnsetType = UNSET
    max_count: int | str | UnsetType = UNSET
    return_reservation_id: Boolean | UnsetType = UNSET
    security_groups: list[GroupName] | UnsetType = UNSET
    user_data: str | UnsetType | None = UNSET
    description: Text255 | UnsetType | None = UNSET
    tags: list[Tag] | UnsetType = UNSET
    trusted_image_certificates: list[str] | UnsetType | None = UNSET
    host: str | UnsetType = UNSET
    hypervisor_hostname: str | UnsetType = UNSET
    hostname: str | UnsetType = UNSET


class CreateServerBody(
    msgspec.Struct,
    forbid_unknown_fields=True,
    kw_only=True,
    rename={"hints": "os:scheduler_hints", "old_hints": "OS-SCH-HNT:scheduler_hints"},
):
    server: ServerFields
    hints: dict[str, Any] | UnsetType = UNSET
    old_hints: dict[str, Any] | UnsetType = UNSET


class UpdateFields(
    msgspec.Struct,
    forbid_unknown_fields=True,
    kw_only=True,
    rename={"disk_config": "OS-DCF:diskConfig", "access_ip_v4": "accessIPv4", "access_ip_v6": "accessIPv6"},
):
    """The ``server`` object of an update."""

    name: str | UnsetType = UNSET
    disk_config: DiskConfig | UnsetType = UNSET
    access_ip_v4: str | UnsetType = UNSET
    access_ip_v6: str | UnsetType = UNSET
    description: Text255 | UnsetType | None = UNSET
    hostname: str | UnsetType = UNSET


class UpdateServerBody(msgspec.Struct, forbid_unknown_fields=True):
    server: UpdateFields


#: attribute → (first version, version from which it is unknown again).
_CREATE_VERSIONS: dict[str, tuple[str, str]] = {
    "personality": ("2.1", "2.57"),
    "description": ("2.19", ""),
    "tags": ("2.52", ""),
    "trusted_image_certificates": ("2.63", ""),
    "host": ("2.74", ""),
    "hypervisor_hostname": ("2.74", ""),
    "hostname": ("2.90", ""),
}
_UPDATE_VERSIONS = {"description": ("2.19", ""), "hostname": ("2.90", "")}


def check_create_versions(request: Request, fields: ServerFields) -> None:
    """Raises BadRequest for a field that the request's version does not know."""
    _check_versions(request, fields, _CREATE_VERSIONS)


def check_update_versions(request: Request, fields: UpdateFields) -> None:
    """The same for an update."""
    _check_versions(request, fields, _UPDATE_VERSIONS)


def _check_versions(request: Request, fields: msgspec.Struct, versions: dict[str, tuple[str, str]]) -> None:
    for name, (since, until) in versions.items():
        if getattr(fields, name) is UNSET:
            continue
        if not request.at_least(since) or (until and request.at_least(until)):
            raise BadRequest(
                f"Additional properties are not allowed ('{name}' was unexpected)", field=name, code="unknown_field"
            )


def boolean(value: Any, field: str) -> bool:
    """A boolean, or a word for one. Raises BadRequest that names the field."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in TRUE_WORDS:
        return True
    if text in FALSE_WORDS:
        return False
    raise BadRequest(f"Invalid input for field/attribute {field}. Value: {value!r} is not a boolean.", field=field)


def count(value: Any, field: str) -> int:
    """A number of servers, as a number or as text. Raises BadRequest."""
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if isinstance(value, bool) or not 1 <= number <= COUNT_MAX:
        raise BadRequest(f"Invalid input for field/attribute {field}. Value: {value!r} is not a count.", field=field)
    return number


def server_name(value: str) -> str:
    """A display name: 1 to 255 printable characters without spaces around. Raises BadRequest."""
    if not 1 <= len(value) <= NAME_CHARACTERS_MAX or value != value.strip() or not value.isprintable():
        raise BadRequest(
            f"Invalid input for field/attribute name. Value: {value[:300]!r} is not a valid name: "
            "1 to 255 printable characters, no leading or trailing spaces.",
            field="name",
        )
    return value


def hostname(request: Request, value: str) -> str:
    """A host name; from 2.94 on it may be fully qualified. Raises BadRequest."""
    labels = value.split(".") if request.at_least("2.94") else [value]
    if len(value) > _FQDN_CHARACTERS_MAX or not all(_HOSTNAME.fullmatch(label) for label in labels):
        raise BadRequest(f"Invalid input for field/attribute hostname. Value: {value[:300]!r}", field="hostname")
    return value


def address(value: str | UnsetType, field: str, version: int) -> str:
    """An IP address of the given version, or nothing. Raises BadRequest."""
    if value is UNSET or value == "":
        return ""
    try:
        parsed = ipaddress.ip_address(str(value))
    except ValueError:
        parsed = None
    if parsed is None or parsed.version != version:
        raise BadRequest(f"Invalid input for field/attribute {field}. Value: {value!r}", field=field)
    return str(parsed)


def user_data(value: str | UnsetType | None) -> bytes | None:
    """Decoded user data. Raises BadRequest when it is not Base64 or too long."""
    if value is None or value is UNSET:
        return None
    assert isinstance(value, str)
    if len(value) > USER_DATA_BYTES_MAX:
        raise BadRequest(f"User data too large. It must be at most {USER_DATA_BYTES_MAX} bytes.", field="user_data")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("Invalid input for field/attribute user_data. It is not Base64.", field="user_data") from None


def networks(request: Request, value: Any) -> tuple[RequestedNic, ...] | Literal["none", "auto", "default"]:
    """The network cards asked for. Raises BadRequest; from 2.37 on the field must be there."""
    if value is UNSET:
        if request.at_least("2.37"):
            raise BadRequest("'networks' is a required property", field="networks", code="missing_field")
        return "default"
    if value in ("none", "auto") and request.at_least("2.37"):
        return "none" if value == "none" else "auto"
    if not isinstance(value, list):
        raise BadRequest("Invalid input for field/attribute networks: a list, or auto, or none.", field="networks")
    if not value:
        return "default" if not request.at_least("2.37") else "auto"
    return tuple(_nic(request, entry) for entry in value)


def _nic(request: Request, entry: Any) -> RequestedNic:
    known = {"uuid", "port", "fixed_ip"} | ({"tag"} if request.at_least("2.42") or _tag_of_2_32(request) else set())
    if not isinstance(entry, dict) or not entry.keys() <= known:
        raise BadRequest("Invalid input for field/attribute networks. An entry has unknown keys.", field="networks")
    network_id, port_id = entry.get("uuid") or "", entry.get("port") or ""
    fixed_ip, tag = entry.get("fixed_ip") or "", entry.get("tag") or ""
    if not all(isinstance(part, str) for part in (network_id, port_id, fixed_ip, tag)):
        raise BadRequest("Invalid input for field/attribute networks. All values must be text.", field="networks")
    if port_id:
        if fixed_ip:
            raise BadRequest("A port has its addresses already: fixed_ip does not go with port.", field="networks")
        network_id = ""
    elif not _UUID.fullmatch(network_id):
        raise BadRequest(
            f"Bad networks format: network uuid is not in proper format ({network_id[:64]})", field="networks"
        )
    if tag and not _TAG.fullmatch(tag):
        raise BadRequest("Invalid input for field/attribute tag: at most 60 characters without , and /.", field="tag")
    if fixed_ip:
        fixed_ip = address(fixed_ip, "fixed_ip", 6 if ":" in fixed_ip else 4)
    return RequestedNic(network_id=network_id, port_id=port_id, fixed_ip=fixed_ip, tag=tag)


def _tag_of_2_32(request: Request) -> bool:
    return request.at_least("2.32") and not request.at_least("2.37")


def hints(body: CreateServerBody) -> Hints:
    """The scheduler hints, under either name. Raises BadRequest that names the hint."""
    given = body.hints if body.hints is not UNSET else body.old_hints
    return read_hints(given) if isinstance(given, dict) else {}


def last_segment(reference: str) -> str:
    """The id at the end of a reference, which may be a URL."""
    return reference.rstrip("/").rpartition("/")[2]


@lru_cache(maxsize=1)
def alias_names(aliases: tuple[str, ...]) -> tuple[str, ...]:
    """What flavors may call PCI devices, from the option ``pci_alias``; the scheduler has refused what is no JSON."""
    found = (json.loads(text) for text in aliases)
    return tuple(sorted({str(entry["name"]).strip() for entry in found}))
