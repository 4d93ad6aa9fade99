"""What clients write: values that come in several spellings, and single or bulk bodies."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from nova_fast.model.errors import BadRequest
from nova_fast.model.words import FALSE_WORDS, TRUE_WORDS

T = TypeVar("T")

Name = Annotated[str, Meta(max_length=255)]
Identifier = Annotated[str, Meta(max_length=64)]
#: Clients write true, "True", 1, "1", …
Boolean = bool | int | str
Number = int | str
BULK_MAX = 100


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A JSON object in which nothing may stand that is not understood."""


def bad_value(field: str, reason: str) -> BadRequest:
    """The error for a value that cannot be understood."""
    return BadRequest(f"Invalid input for {field}. Reason: {reason}", code="HTTPBadRequest", field=field)


def boolean(value: Boolean, field: str) -> bool:
    """A truth value in any spelling. Raises BadRequest."""
    text = str(value).strip().lower()
    if text in TRUE_WORDS:
        return True
    if text in FALSE_WORDS:
        return False
    raise bad_value(field, f"'{str(value)[:40]}' cannot be converted to boolean.")


def boolean_or_unset(value: Boolean | UnsetType, field: str) -> bool | UnsetType:
    """A truth value, or UNSET when nothing was said."""
    return UNSET if value is UNSET else boolean(value, field)


def number(value: Number, field: str) -> int:
    """A whole number in any spelling. Raises BadRequest."""
    if isinstance(value, int):
        found = int(value)
    else:
        text = value.strip()
        if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 12):
            raise bad_value(field, f"'{text[:40]}' is not an integer.")
        found = int(text)
    if abs(found) >= 1 << 31:
        raise bad_value(field, f"{found} is out of range.")
    return found


def number_or_unset(value: Number | UnsetType | None, field: str) -> int | UnsetType:
    """A whole number; null and nothing said are UNSET."""
    return UNSET if value is UNSET or value is None else number(value, field)


def owner(project_id: str | UnsetType, tenant_id: str | UnsetType) -> str:
    """The project a client named under one of its two keys, or "". Raises BadRequest when they differ."""
    if project_id is not UNSET and tenant_id is not UNSET and project_id != tenant_id:
        raise bad_value("tenant_id", "it differs from project_id.")
    if project_id is not UNSET:
        return project_id
    return "" if tenant_id is UNSET else tenant_id


def one_or_many(single: T | UnsetType, many: list[T] | UnsetType, key: str) -> tuple[list[T], bool]:
    """The things to make, and whether they came as a list. Raises BadRequest."""
    if (single is UNSET) == (many is UNSET):
        raise BadRequest(f"Unable to find '{key}' in request body", code="HTTPBadRequest")
    if single is not UNSET:
        return [single], False
    assert many is not UNSET
    if not 1 <= len(many) <= BULK_MAX:
        raise BadRequest(f"A bulk request makes 1 to {BULK_MAX} things.", code="HTTPBadRequest", field=f"{key}s")
    return many, True
