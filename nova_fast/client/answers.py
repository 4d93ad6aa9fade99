"""From an Answer to an object or an error: what went wrong is the same error, with the same status, as over REST."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from nova_fast.model import errors
from nova_fast.model.errors import InternalError, NovaFastError, from_failure
from nova_fast.model.sdk import Answer

T = TypeVar("T")

_BY_STATUS: dict[int, type[NovaFastError]] = {
    400: errors.BadRequest,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.NotFound,
    406: errors.NotAcceptable,
    409: errors.Conflict,
    410: errors.NotFound,
    413: errors.TooLarge,
    415: errors.UnsupportedMedia,
    422: errors.Unprocessable,
    501: errors.NotImplementedHere,
    503: errors.Unavailable,
}


def check(answer: Answer) -> Answer:
    """The answer, when it is one of success. Raises NovaFastError with the status REST would have answered."""
    if answer.status < 400:
        return answer
    raise error_of(answer)


def error_of(answer: Answer) -> NovaFastError:
    """The error an answer stands for."""
    if answer.failure is not None:
        error = from_failure(answer.failure)
    else:
        kind = _BY_STATUS.get(answer.status, InternalError)
        error = kind(_sentence(answer.body) or f"the cloud answered with status {answer.status}")
    error.status = answer.status
    error.request_id = answer.headers.get("x-openstack-request-id", "")
    return error


def _sentence(body: bytes) -> str:
    """The message somewhere in an error body of a face."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    while isinstance(found, dict):
        if isinstance(found.get("message"), str):
            return str(found["message"])
        found = next(iter(found.values()), None)
    return ""


class One(Generic[T]):
    """Answers that hold one object: under a key, or bare."""

    def __init__(self, shape: type[T], key: str = "") -> None:
        wrapped: Any = msgspec.defstruct("One", [("it", shape, msgspec.field(name=key))]) if key else shape
        self._decode = msgspec.json.Decoder(wrapped).decode
        self._bare = not key

    def read(self, answer: Answer) -> T:
        """The object. Raises NovaFastError."""
        found: Any = _decoded(self._decode, check(answer))
        return found if self._bare else found.it  # type: ignore[no-any-return]


class Many(Generic[T]):
    """Answers that hold a page of a list, and maybe a link to the next."""

    def __init__(self, shape: type[T], key: str) -> None:
        links: Any = list[dict[str, str]]
        fields: Any = [
            ("rows", list[shape], msgspec.field(name=key)),  # type: ignore[valid-type]
            ("links", links, msgspec.field(name=f"{key}_links", default_factory=list)),
            ("next", str, ""),  # as Glance has it
        ]
        self._decode = msgspec.json.Decoder(msgspec.defstruct("Many", fields)).decode

    def read(self, answer: Answer) -> tuple[list[T], bool]:
        """The rows, and whether there are more. Raises NovaFastError."""
        found: Any = _decoded(self._decode, check(answer))
        return found.rows, bool(found.next) or any(link["rel"] == "next" for link in found.links)


def _decoded(decode: Any, answer: Answer) -> Any:
    try:
        return decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InternalError(f"the answer cannot be read: {error}", code="malformed_answer") from None
