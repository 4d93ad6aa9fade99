"""From a query string to a Struct: text becomes what the field's type says, repeated keys become lists."""

from __future__ import annotations

import typing
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from nova_fast.api.framework.body import invalid
from nova_fast.model.errors import BadRequest

MAX_PARAMETERS = 200


def pairs(query_string: bytes) -> list[tuple[str, str]]:
    """Keys and values in order, blank values kept. Raises BadRequest for bytes that are not UTF-8 or too many keys."""
    try:
        found = parse_qsl(
            query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS
        )
    except UnicodeError:
        raise BadRequest("The query string is not valid UTF-8.", code="malformed_query") from None
    except ValueError:
        raise BadRequest(f"The query string has more than {MAX_PARAMETERS} parameters.") from None
    if any("\x00" in key or "\x00" in value for key, value in found):
        raise BadRequest("The query string contains a NUL character.", code="nul_character")
    return found


class QueryReader:
    """Reads query strings into one Struct type."""

    __slots__ = ("_lists", "_shape")

    def __init__(self, shape: type[msgspec.Struct]) -> None:
        self._shape = shape
        hints = typing.get_type_hints(shape, include_extras=True)
        self._lists = {f.encode_name: _takes_list(hints[f.name]) for f in msgspec.structs.fields(shape)}

    def read(self, query_string: bytes) -> Any:
        """The Struct for a query string. Raises BadRequest that names the parameter."""
        values: dict[str, Any] = {}
        for key, value in pairs(query_string) if query_string else ():
            if self._lists.get(key):
                values.setdefault(key, []).append(value)
            else:
                values[key] = value
        try:
            return msgspec.convert(values, self._shape, strict=False)
        except msgspec.ValidationError as error:
            raise invalid(error) from None


def _takes_list(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _takes_list(typing.get_args(hint)[0])
    if origin in (list, tuple, set, frozenset) or hint in (list, tuple, set, frozenset):
        return True
    return any(_takes_list(part) for part in typing.get_args(hint)) if origin is not None else False
