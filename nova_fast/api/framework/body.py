"""From the bytes of a request to a typed body: size limit, content type, syntax, shape.

Of a key given twice in one JSON object the last counts (RFC 8259 leaves it open; Python's and msgspec's readers agree).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol

import msgspec

from nova_fast.api.framework.incoming import Incoming
from nova_fast.model.errors import BadRequest, TooLarge, Unavailable, UnsupportedMedia

#: A JSON body must have arrived whole after this time; a piece of a stream must follow the last within it.
BODY_TIMEOUT_S = 30.0
PIECE_TIMEOUT_S = 60.0

_MALFORMED = "The request body is not valid JSON"


class Source(Protocol):
    """Where the pieces of a body come from (Falcon's request stream)."""

    async def read(self, size: int | None = None) -> bytes: ...


async def read_whole(source: Source, incoming: Incoming, declared: int | None, limit: int) -> bytes:
    """The whole body, at most ``limit`` bytes. Raises TooLarge, BadRequest when it was cut short."""
    if declared is not None and declared > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            data = await source.read(limit + 1)
    except TimeoutError:
        raise Unavailable("The request body did not arrive in time.") from None
    if len(data) > limit:
        raise _too_large(limit)
    if incoming.disconnected or (declared is not None and len(data) < declared):
        raise BadRequest("The connection was closed before the whole body had arrived.", code="truncated_body")
    return data


def bounded(data: bytes, limit: int) -> bytes:
    """A body that is here. Raises TooLarge."""
    if len(data) > limit:
        raise _too_large(limit)
    return data


async def stream(source: Source, incoming: Incoming, declared: int | None) -> AsyncIterator[bytes]:
    """The body piece by piece, of any length. Raises BadRequest when it was cut short, Unavailable when it stalls."""
    received = 0
    while True:
        try:
            async with asyncio.timeout(PIECE_TIMEOUT_S):
                piece = await source.read(1 << 18)
        except TimeoutError:
            raise Unavailable("The request body stopped arriving.") from None
        if not piece:
            break
        received += len(piece)
        yield piece
    if incoming.disconnected or (declared is not None and received < declared):
        raise BadRequest("The connection was closed before the whole body had arrived.", code="truncated_body")


def check_media(content_type: str | None, allowed: tuple[str, ...]) -> str:
    """The bare media type of a request; none given counts as the first allowed. Raises UnsupportedMedia."""
    if not content_type:
        return allowed[0]
    media = content_type.partition(";")[0].strip().lower()
    if media not in allowed:
        raise UnsupportedMedia(f"Unsupported Content-Type {media[:80]}; use {' or '.join(allowed)}.")
    return media


def parse(data: bytes) -> Any:
    """JSON text → plain values. Raises BadRequest."""
    return decode(data, Any)


def decode(data: bytes, shape: Any) -> Any:
    """JSON text → a value of a msgspec type. Raises BadRequest that names the field at fault."""
    if not data.strip():
        raise BadRequest("The request needs a JSON body.", code="missing_body")
    try:
        value = msgspec.json.decode(data, type=shape)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"{_MALFORMED}: {error}", code="malformed_json") from None
    except RecursionError:
        raise BadRequest(f"{_MALFORMED}: it is nested too deeply.", code="malformed_json") from None
    if b"\\u0000" in data and _has_nul(msgspec.json.decode(data)):
        raise BadRequest("A text of the request body contains a NUL character.", code="nul_character")
    return value


def decode_action(data: bytes) -> tuple[str, msgspec.Raw]:
    """``{"os-start": null}`` → the key and the undecoded value. Raises BadRequest."""
    value = decode(data, dict[str, msgspec.Raw])
    if len(value) != 1:
        raise BadRequest("The request body must be an object with exactly one key: the action.", code="bad_action")
    [(name, raw)] = value.items()
    return name, raw


def invalid(error: msgspec.ValidationError) -> BadRequest:
    """What a person reads for a value of a wrong shape: the field, and what was expected there."""
    what, _, where = str(error).partition(" - at `")
    path = where.rstrip("`").removeprefix("$").lstrip(".")
    if path.startswith("key in"):
        path = path.removeprefix("key in").strip()
    if "unknown field" in what:
        name = what.partition("unknown field ")[2].strip("`")
        return BadRequest(
            f"Additional properties are not allowed ('{name}' was unexpected)", field=name, code="unknown_field"
        )
    if "missing required field" in what:
        name = what.partition("missing required field ")[2].strip("`")
        return BadRequest(f"'{name}' is a required property", field=name, code="missing_field")
    field = path or None
    named = f"Invalid input for field/attribute {path}. " if path else "Invalid input: "
    return BadRequest(f"{named}{what}", field=field, code="invalid_value")


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(map(_has_nul, value))


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The request body is larger than {limit} bytes.", code="body_too_large")
