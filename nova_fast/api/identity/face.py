"""The face every file of this folder declares its routes on, and the few things they share."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from nova_fast.api.framework.body import invalid
from nova_fast.api.framework.errors import KEYSTONE
from nova_fast.api.framework.request import Request
from nova_fast.api.framework.route import Face
from nova_fast.model.errors import BadRequest, Forbidden, NotFound

face = Face("identity", errors=KEYSTONE, prefix="/v3", head=True)

T = TypeVar("T")


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Resource options; none is known here, so only an empty object passes."""


def found(record: T | None, noun: str, identifier: str) -> T:
    """The record. Raises NotFound that names what was asked for."""
    if record is None:
        raise NotFound(f"Could not find {noun}: {identifier}.", code=f"{noun.replace(' ', '_')}_not_found")
    return record


def split_extra(given: dict[str, Any], shape: type[T]) -> tuple[T, dict[str, str]]:
    """The known fields of an object that may carry others, and the others, which must be short texts.

    Raises BadRequest that names the field.
    """
    assert issubclass(shape, msgspec.Struct)
    names = set(shape.__struct_encode_fields__)
    extra = {key: value for key, value in given.items() if key not in names}
    for key, value in extra.items():
        if not isinstance(value, str) or len(value) > 255 or len(key) > 255:
            raise BadRequest("An additional property must be a text of at most 255 characters.", field=key[:255])
    try:
        return msgspec.convert({key: given[key] for key in given if key in names}, shape), extra
    except msgspec.ValidationError as error:
        raise invalid(error) from None


def owner_or_reader(request: Request, user_id: str) -> None:
    """Raises Forbidden unless the user himself, an admin or a reader of the system asks."""
    caller = request.caller
    if caller.user_id != user_id and not caller.is_admin and not (caller.system and "reader" in caller.roles):
        raise Forbidden("You are not authorized to perform the requested action.", code="policy")


def owner_or_admin(request: Request, user_id: str) -> None:
    """Raises Forbidden unless the user himself or an admin asks."""
    if request.caller.user_id != user_id and not request.caller.is_admin:
        raise Forbidden("You are not authorized to perform the requested action.", code="policy")


def v3(request: Request) -> str:
    """The base of all links."""
    return f"{request.base_url}/v3"
