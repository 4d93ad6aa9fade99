"""A JSON patch on an image: which attributes exist, which may be changed, and what a value must look like.

Source: Image API v2, ``PATCH /v2/images/{id}``. What is no attribute is a custom property: its value is text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from nova_fast.model.commands.images import PatchOperation, PatchValue
from nova_fast.model.errors import BadRequest, Conflict, Forbidden
from nova_fast.model.identity import Caller
from nova_fast.model.images import CONTAINER_FORMATS, DISK_FORMATS, Image, ImageStatus, Visibility

TEXT_MAX = 255
VALUE_MAX = 65_535
PROPERTIES_MAX = 128
NUMBER_MAX = (1 << 31) - 1

#: Set by the service alone.
READ_ONLY = frozenset(
    {
        "created_at", "updated_at", "status", "checksum", "os_hash_algo", "os_hash_value", "size", "virtual_size",
        "direct_url", "self", "file", "schema", "id", "stores",
    }
)  # fmt: skip
#: Not for anybody to name a property so.
RESERVED = frozenset({"locations", "deleted", "deleted_at", "members", "os_glance_import_task"})


def check_property(name: str, value: object) -> str:
    """A custom property's text. Raises BadRequest, or Forbidden for a reserved name."""
    if name in RESERVED or name.startswith("os_glance"):
        raise Forbidden(f"Attribute '{name}' is reserved.", code="reserved_attribute", field=name)
    if not 0 < len(name) <= TEXT_MAX:
        raise BadRequest(f"The name of a property must have 1 to {TEXT_MAX} characters.", field=name[:TEXT_MAX])
    if not isinstance(value, str):
        raise BadRequest(f"The value of property {name} must be text.", field=name)
    if len(value) > VALUE_MAX:
        raise BadRequest(f"The value of property {name} has more than {VALUE_MAX} characters.", field=name)
    return value


def check_new_properties(properties: dict[str, str]) -> None:
    """Raise unless an image may be made with these properties: BadRequest, or Forbidden for what is read-only."""
    if len(properties) > PROPERTIES_MAX:
        raise BadRequest(f"An image may have at most {PROPERTIES_MAX} properties.", field="properties")
    for name, value in properties.items():
        if name in READ_ONLY:
            raise Forbidden(f"Attribute '{name}' is read-only.", code="read_only", field=name)
        check_property(name, value)


def check_tags(tags: object) -> tuple[str, ...]:
    """Tags without repetition. Raises BadRequest."""
    if not isinstance(tags, list) or not all(isinstance(tag, str) and len(tag) <= TEXT_MAX for tag in tags):
        raise BadRequest(f"Tags must be a list of texts of at most {TEXT_MAX} characters.", field="tags")
    if len(tags) > PROPERTIES_MAX:
        raise BadRequest(f"An image may have at most {PROPERTIES_MAX} tags.", field="tags")
    return tuple(dict.fromkeys(tags))


def apply_patch(image: Image, operations: tuple[PatchOperation, ...], caller: Caller) -> Image:
    """The image after all operations. Raises Forbidden (read-only), BadRequest (value), Conflict (nothing there)."""
    for operation in operations:
        if operation.name in READ_ONLY:
            raise Forbidden(f"Attribute '{operation.name}' is read-only.", code="read_only", field=operation.name)
        if operation.name in _SETTERS:
            image = _change_attribute(image, operation, caller)
        else:
            image = _change_property(image, operation)
    if len(image.properties) > PROPERTIES_MAX:
        raise BadRequest(f"An image may have at most {PROPERTIES_MAX} properties.", field="properties")
    return image


def _change_attribute(image: Image, operation: PatchOperation, caller: Caller) -> Image:
    if operation.op == "remove":
        if operation.name not in _REMOVABLE:
            raise Forbidden(f"Property {operation.name} may not be removed.", code="not_removable")
        return msgspec.structs.replace(image, **_REMOVABLE[operation.name])
    if operation.name in ("disk_format", "container_format") and image.status is not ImageStatus.QUEUED:
        raise Forbidden(f"Attribute {operation.name} can be only replaced for a queued image.", code="read_only")
    if operation.name == "owner" and not caller.is_admin:
        raise Forbidden("Only an admin may give an image to another project.", code="foreign_owner", field="owner")
    return msgspec.structs.replace(image, **_SETTERS[operation.name](operation.value))


def _change_property(image: Image, operation: PatchOperation) -> Image:
    name = operation.name
    if operation.op != "add" and name not in image.properties:
        raise Conflict(f"Property {name} does not exist.", code="property_not_found", field=name)
    properties = dict(image.properties)
    if operation.op == "remove":
        del properties[name]
    else:
        properties[name] = check_property(name, operation.value)
    return msgspec.structs.replace(image, properties=properties)


# ---------------------------------------------------------------------- values of attributes


def _name(value: PatchValue) -> dict[str, Any]:
    if value is not None and (not isinstance(value, str) or len(value) > TEXT_MAX):
        raise BadRequest(f"The name must be text of at most {TEXT_MAX} characters.", field="name")
    return {"name": value}


def _visibility(value: PatchValue) -> dict[str, Any]:
    try:
        return {"visibility": Visibility(str(value))}
    except ValueError:
        raise BadRequest(f"The visibility must be one of {', '.join(Visibility)}.", field="visibility") from None


def _owner(value: PatchValue) -> dict[str, Any]:
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_MAX:
        raise BadRequest("The owner must be a project's id.", field="owner")
    return {"project_id": value}


def _one_of(field: str, allowed: tuple[str, ...]) -> Callable[[PatchValue], dict[str, Any]]:
    def setter(value: PatchValue) -> dict[str, Any]:
        if value is not None and value not in allowed:
            raise BadRequest(f"Invalid {field} '{value}'; it must be one of {', '.join(allowed)}.", field=field)
        return {field: value}

    return setter


def _number(name: str, field: str) -> Callable[[PatchValue], dict[str, Any]]:
    def setter(value: PatchValue) -> dict[str, Any]:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= NUMBER_MAX:
            raise BadRequest(f"{name} must be a whole number from 0 to {NUMBER_MAX}.", field=name)
        return {field: value}

    return setter


def _truth(name: str, field: str) -> Callable[[PatchValue], dict[str, Any]]:
    def setter(value: PatchValue) -> dict[str, Any]:
        if not isinstance(value, bool):
            raise BadRequest(f"{name} must be true or false.", field=name)
        return {field: value}

    return setter


_SETTERS: dict[str, Callable[[PatchValue], dict[str, Any]]] = {
    "name": _name,
    "visibility": _visibility,
    "owner": _owner,
    "disk_format": _one_of("disk_format", DISK_FORMATS),
    "container_format": _one_of("container_format", CONTAINER_FORMATS),
    "min_disk": _number("min_disk", "min_disk_gib"),
    "min_ram": _number("min_ram", "min_ram_mib"),
    "protected": _truth("protected", "protected"),
    "os_hidden": _truth("os_hidden", "hidden"),
    "tags": lambda value: {"tags": check_tags(value)},
}
_REMOVABLE: dict[str, dict[str, Any]] = {"name": {"name": None}, "tags": {"tags": ()}}
