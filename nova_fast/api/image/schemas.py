"""JSON schemas by which clients check attributes, and what the service can do.

Source: Image API v2, "Image schemas", "Import" and "Stores". There is one unnamed store and no import method yet.
"""

from __future__ import annotations

from typing import Any

from nova_fast.api.framework.request import Request
from nova_fast.api.image.face import face
from nova_fast.model.errors import NotFound
from nova_fast.model.images import CONTAINER_FORMATS, DISK_FORMATS, ImageStatus, Visibility

_UUID = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"


def _text(description: str, longest: int = 255, **more: Any) -> dict[str, Any]:
    return {"type": ["null", "string"], "maxLength": longest, "description": description, **more}


def _read_only(kind: str | list[str], description: str) -> dict[str, Any]:
    return {"type": kind, "readOnly": True, "description": description}


_IMAGE_PROPERTIES: dict[str, Any] = {
    "id": {"type": "string", "pattern": _UUID, "description": "An identifier for the image"},
    "name": _text("Descriptive name for the image"),
    "status": _read_only("string", "Status of the image") | {"enum": [status.value for status in ImageStatus]},
    "visibility": {
        "type": "string",
        "enum": [visibility.value for visibility in Visibility],
        "description": "Scope of image accessibility",
    },
    "protected": {"type": "boolean", "description": "If true, image will not be deletable."},
    "os_hidden": {"type": "boolean", "description": "If true, image will not appear in default image list response."},
    "checksum": _read_only(["null", "string"], "md5 hash of image contents.") | {"maxLength": 32},
    "os_hash_algo": _read_only(["null", "string"], "Algorithm to calculate os_hash_value") | {"maxLength": 64},
    "os_hash_value": _read_only(["null", "string"], "Hexdigest of the image contents") | {"maxLength": 128},
    "owner": _text("Owner of the image"),
    "size": _read_only(["null", "integer"], "Size of image file in bytes"),
    "virtual_size": _read_only(["null", "integer"], "Virtual size of image in bytes"),
    "container_format": {
        "type": ["null", "string"],
        "enum": [None, *CONTAINER_FORMATS],
        "description": "Format of the container",
    },
    "disk_format": {"type": ["null", "string"], "enum": [None, *DISK_FORMATS], "description": "Format of the disk"},
    "created_at": _read_only("string", "Date and time of image registration"),
    "updated_at": _read_only("string", "Date and time of the last image modification"),
    "tags": {
        "type": "array",
        "items": {"type": "string", "maxLength": 255},
        "description": "List of strings related to the image",
    },
    "min_ram": {"type": "integer", "description": "Amount of ram (in MB) required to boot image."},
    "min_disk": {"type": "integer", "description": "Amount of disk space (in GB) required to boot image."},
    "self": _read_only("string", "An image self url"),
    "file": _read_only("string", "An image file url"),
    "schema": _read_only("string", "An image schema url"),
}
_IMAGE = {
    "name": "image",
    "properties": _IMAGE_PROPERTIES,
    "additionalProperties": {"type": "string"},
    "links": [
        {"rel": "self", "href": "{self}"},
        {"rel": "enclosure", "href": "{file}"},
        {"rel": "describedby", "href": "{schema}"},
    ],
}
_MEMBER = {
    "name": "member",
    "properties": {
        "member_id": {"type": "string", "description": "An identifier for the image member (project)"},
        "image_id": {"type": "string", "pattern": _UUID, "description": "An identifier for the image"},
        "status": {
            "type": "string",
            "enum": ["pending", "accepted", "rejected"],
            "description": "The status of this image member",
        },
        "created_at": {"type": "string", "description": "Date and time of image member creation"},
        "updated_at": {"type": "string", "description": "Date and time of last modification of image member"},
        "schema": {"type": "string", "readOnly": True},
    },
}


def _list_of(name: str, item: dict[str, Any], *, paged: bool) -> dict[str, Any]:
    properties: dict[str, Any] = {name: {"type": "array", "items": item}, "schema": {"type": "string"}}
    schema: dict[str, Any] = {"name": name, "properties": properties}
    if paged:
        properties |= {"first": {"type": "string"}, "next": {"type": "string"}}
        schema["links"] = [
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            {"rel": "describedby", "href": "{schema}"},
        ]
    else:
        schema["links"] = [{"rel": "describedby", "href": "{schema}"}]
    return schema


_SCHEMAS: dict[str, dict[str, Any]] = {
    "image": _IMAGE,
    "images": _list_of("images", _IMAGE, paged=True),
    "member": _MEMBER,
    "members": _list_of("members", _MEMBER, paged=False),
}


@face.route("GET", "/schemas/{name}", errors=(404,))
async def show_schema(request: Request, name: str) -> dict[str, Any]:
    """What an image, a member, or a list of them looks like."""
    if name not in _SCHEMAS:
        raise NotFound(f"There is no schema {name}.", code="schema_not_found")
    return _SCHEMAS[name]


@face.route("GET", "/info/import")
async def show_import_methods(request: Request) -> dict[str, Any]:
    """The ways to import an image: none yet, uploads go to its file."""
    return {"import-methods": {"description": "Import methods available.", "type": "array", "value": []}}


@face.route("GET", "/info/stores", errors=(404,))
async def show_stores(request: Request) -> dict[str, Any]:
    """There is one store, and it has no name."""
    raise NotFound("Multi backend is not supported at this site.", code="one_store")
