"""``/servers``: create, update, delete. Lists and what one server shows are in ``server_reads``."""

from __future__ import annotations

import os
import string
from typing import Any

from msgspec import UNSET

from nova_fast.api.compute import server_bodies as bodies
from nova_fast.api.compute.face import face
from nova_fast.api.compute.server_bodies import CreateServerBody, ServerFields, UpdateServerBody
from nova_fast.api.compute.server_hints import group_of
from nova_fast.api.compute.server_view import ServerView, server_links
from nova_fast.api.framework.request import Request
from nova_fast.api.framework.route import Answer
from nova_fast.model.commands.servers import CreateServers, DeleteServer, ServersCreated, UpdateServer
from nova_fast.model.errors import BadRequest

_PASSWORD_CHARACTERS = string.ascii_letters + string.digits
_PASSWORD_LENGTH = 12
_USED_BYTES = 256 // len(_PASSWORD_CHARACTERS) * len(_PASSWORD_CHARACTERS)
_TO_CHARACTERS = (_PASSWORD_CHARACTERS * 5)[:256].encode()
_LEFT_OUT = bytes(range(_USED_BYTES, 256))


# ------------------------------------------------------------------------------------------------ create
@face.route("POST", "/servers", ok=202, errors=(400, 403, 409), policy="member", body=CreateServerBody)
async def create(request: Request) -> Answer:
    """Accept one or more servers; they are durable when this answers, and built after it."""
    fields = request.body.server
    bodies.check_create_versions(request, fields)
    reserve = fields.return_reservation_id
    brief = reserve is not UNSET and bodies.boolean(reserve, "return_reservation_id")
    command = _command(request, request.body, fields)
    created: ServersCreated = await request.command(command)
    if request.header("x-nova-fast-ids") is not None:  # our own: Nova says the id of the first only
        secret = {"adminPass": command.admin_password}
        return Answer(body={"server_ids": created.server_ids, "reservation_id": created.reservation_id, **secret})
    if brief:
        return Answer(body={"reservation_id": created.reservation_id})
    server_id = created.server_ids[0]
    groups = command.security_groups or ("default",)
    links = server_links(request, server_id)
    view = {
        "id": server_id,
        "links": links,
        "OS-DCF:diskConfig": command.disk_config,
        "security_groups": [{"name": name} for name in groups],
        "adminPass": command.admin_password,
    }
    return Answer(body={"server": view}, headers={"location": links[0]["href"]})


def _command(request: Request, body: CreateServerBody, fields: ServerFields) -> CreateServers:
    minimum, maximum = _counts(fields)
    zone, host = _zone_and_host(fields)
    hints = bodies.hints(body)
    return CreateServers(
        caller=request.caller,
        name=bodies.server_name(fields.name),
        flavor_id=bodies.last_segment(str(fields.flavor_ref)),
        image_id=_image_id(fields),
        networks=bodies.networks(request, fields.networks),
        min_count=minimum,
        max_count=maximum,
        multi_name=maximum > 1,
        hostname=None if fields.hostname is UNSET else bodies.hostname(request, str(fields.hostname)),
        description=None if fields.description is UNSET else fields.description,
        key_name=None if fields.key_name is UNSET else fields.key_name,
        user_data=bodies.user_data(fields.user_data),
        config_drive=fields.config_drive not in (UNSET, None) and bodies.boolean(fields.config_drive, "config_drive"),
        zone=zone,
        requested_host=host,
        metadata={} if fields.metadata is UNSET else fields.metadata,
        tags=() if fields.tags is UNSET else _tags(fields.tags),
        security_groups=() if fields.security_groups is UNSET else tuple(g.name for g in fields.security_groups),
        hints=hints,
        group_id=group_of(hints),
        pci_aliases=bodies.alias_names(request.config.scheduler.pci_alias),
        disk_config="MANUAL" if fields.disk_config is UNSET else str(fields.disk_config),
        access_ip_v4=bodies.address(fields.access_ip_v4, "accessIPv4", 4),
        access_ip_v6=bodies.address(fields.access_ip_v6, "accessIPv6", 6),
        admin_password=_new_password(request) if fields.admin_pass is UNSET else str(fields.admin_pass),
    )


def _new_password(request: Request) -> str:
    password = request.remembered()
    if password is None:
        password = _random_password()
        request.remember(password)
    return password


def _random_password() -> str:
    """PERF: 1 µs, one call to the system. Bytes that would make some characters likelier are left out (8 of 256)."""
    characters = ""
    while len(characters) < _PASSWORD_LENGTH:
        characters += os.urandom(2 * _PASSWORD_LENGTH).translate(_TO_CHARACTERS, _LEFT_OUT).decode()
    return characters[:_PASSWORD_LENGTH]


def _tags(tags: Any) -> tuple[str, ...]:
    if len(tags) > 50:
        raise BadRequest("The number of tags exceeded the per-server limit 50", field="tags")
    return tuple(dict.fromkeys(tags))


def _counts(fields: ServerFields) -> tuple[int, int]:
    minimum = 1 if fields.min_count is UNSET else bodies.count(fields.min_count, "min_count")
    maximum = minimum if fields.max_count is UNSET else bodies.count(fields.max_count, "max_count")
    if minimum > maximum:
        raise BadRequest("min_count must be <= max_count", field="min_count")
    return minimum, maximum


def _zone_and_host(fields: ServerFields) -> tuple[str, str]:
    """``zone``, ``zone:host`` or ``zone:host:node``, and the ``host`` of 2.74."""
    zone = "" if fields.availability_zone is UNSET else str(fields.availability_zone)
    zone, _, rest = zone.partition(":")
    host, _, node = rest.partition(":")
    for named in (fields.host, fields.hypervisor_hostname):
        if named is not UNSET:
            host = str(named)
    if node and node != host:
        raise BadRequest(f"Compute host {node} could not be found.", field="availability_zone")
    return zone, host


def _image_id(fields: ServerFields) -> str:
    if fields.personality is not UNSET and fields.personality:
        raise BadRequest("File injection is not supported: use user_data.", field="personality")
    _check_devices(fields)
    reference = fields.image_ref
    if not isinstance(reference, str) or not reference:
        raise BadRequest("Invalid imageRef provided: a server boots from an image here.", field="imageRef")
    return bodies.last_segment(reference)


def _check_devices(fields: ServerFields) -> None:
    """Only the device that the image itself is may be described; volumes are not part of this release."""
    if fields.block_device_mapping is not UNSET and fields.block_device_mapping:
        raise BadRequest("Volumes are not available in this cloud yet.", field="block_device_mapping")
    for device in [] if fields.block_device_mapping_v2 is UNSET else fields.block_device_mapping_v2:
        plain = (
            isinstance(device, dict)
            and device.get("source_type") == "image"
            and device.get("destination_type") == "local"
            and device.get("uuid") == fields.image_ref
            and str(device.get("boot_index")) == "0"
        )
        if not plain:
            raise BadRequest("Volumes are not available in this cloud yet.", field="block_device_mapping_v2")


# ------------------------------------------------------------------------------------------------ change
@face.route("PUT", "/servers/{server_id}", errors=(400, 404, 409), policy="member", body=UpdateServerBody)
async def update(request: Request, server_id: str) -> dict[str, Any]:
    """Change the labels of a server."""
    fields = request.body.server
    bodies.check_update_versions(request, fields)
    command = UpdateServer(
        caller=request.caller,
        server_id=server_id,
        name=UNSET if fields.name is UNSET else bodies.server_name(fields.name),
        description=fields.description,
        hostname=UNSET if fields.hostname is UNSET else bodies.hostname(request, fields.hostname),
        disk_config=fields.disk_config,
        access_ip_v4=UNSET if fields.access_ip_v4 is UNSET else bodies.address(fields.access_ip_v4, "accessIPv4", 4),
        access_ip_v6=UNSET if fields.access_ip_v6 is UNSET else bodies.address(fields.access_ip_v6, "accessIPv6", 6),
    )
    result = await request.command(command)
    with request.snapshot() as snapshot:
        return {"server": ServerView(request, snapshot).updated(result.server)}


@face.route("DELETE", "/servers/{server_id}", ok=204, errors=(404, 409), policy="member")
async def delete(request: Request, server_id: str) -> None:
    """Accept the deletion of a server."""
    await request.command(DeleteServer(caller=request.caller, server_id=server_id))
