"""Everything that can go wrong with a request, in one list.

An error has a stable ``code`` (for programs), a sentence (for the person), and where it helps the ``field`` at fault
and a ``hint`` (what to do). A face maps ``kind`` to its own status and body in one place. Errors travel through the hub
as :class:`Failure` and are raised again on the other side.
"""

from __future__ import annotations

import enum

from nova_fast.model.base import Message


class Kind(enum.StrEnum):
    """The few ways in which a request can fail; each API face maps them to its own status codes."""

    BAD_REQUEST = "bad_request"  # the request is wrong in itself
    UNAUTHORIZED = "unauthorized"  # nobody we know asks
    FORBIDDEN = "forbidden"  # known, but not allowed
    NOT_FOUND = "not_found"  # absent, or another project's
    CONFLICT = "conflict"  # right in itself, but not in this state
    OVER_QUOTA = "over_quota"  # a quota would be exceeded
    UNPROCESSABLE = "unprocessable"  # well-formed, but it contradicts what was sent before
    TOO_LARGE = "too_large"  # the body is over a size limit
    UNSUPPORTED_MEDIA = "unsupported_media"  # a content type we do not read
    NOT_ACCEPTABLE = "not_acceptable"  # a microversion outside our range
    NOT_IMPLEMENTED = "not_implemented"  # this host or driver cannot do it
    UNAVAILABLE = "unavailable"  # try again: a daemon or the store cannot serve now
    INTERNAL = "internal"  # our fault


class Failure(Message, frozen=True):
    """An error on the wire and in a record."""

    kind: Kind
    code: str
    message: str
    field: str | None = None
    hint: str | None = None
    details: dict[str, str] = {}


class NovaFastError(Exception):
    """The one exception of the product; raised by pure code, mapped to an answer by a face."""

    kind: Kind = Kind.INTERNAL
    #: What REST answers, and the id under which the worker's log has it; a client of the SDK finds them here.
    status: int = 0
    request_id: str = ""

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        field: str | None = None,
        hint: str | None = None,
        details: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.kind.value
        self.field = field
        self.hint = hint
        self.details = details or {}

    def failure(self) -> Failure:
        """This error as a message."""
        return Failure(
            kind=self.kind, code=self.code, message=self.message, field=self.field, hint=self.hint, details=self.details
        )


class BadRequest(NovaFastError):
    kind = Kind.BAD_REQUEST


class Unauthorized(NovaFastError):
    kind = Kind.UNAUTHORIZED


class Forbidden(NovaFastError):
    kind = Kind.FORBIDDEN


class NotFound(NovaFastError):
    kind = Kind.NOT_FOUND


class Conflict(NovaFastError):
    kind = Kind.CONFLICT


class OverQuota(NovaFastError):
    kind = Kind.OVER_QUOTA


class Unprocessable(NovaFastError):
    kind = Kind.UNPROCESSABLE


class TooLarge(NovaFastError):
    kind = Kind.TOO_LARGE


class UnsupportedMedia(NovaFastError):
    kind = Kind.UNSUPPORTED_MEDIA


class NotAcceptable(NovaFastError):
    kind = Kind.NOT_ACCEPTABLE


class NotImplementedHere(NovaFastError):
    kind = Kind.NOT_IMPLEMENTED


class Unavailable(NovaFastError):
    kind = Kind.UNAVAILABLE


class InternalError(NovaFastError):
    kind = Kind.INTERNAL


_BY_KIND: dict[Kind, type[NovaFastError]] = {
    cls.kind: cls
    for cls in (
        BadRequest,
        Unauthorized,
        Forbidden,
        NotFound,
        Conflict,
        OverQuota,
        Unprocessable,
        TooLarge,
        UnsupportedMedia,
        NotAcceptable,
        NotImplementedHere,
        Unavailable,
        InternalError,
    )
}


def raise_failure(failure: Failure) -> None:
    """Raise a failure that came through the hub as the exception it was."""
    raise from_failure(failure)


def from_failure(failure: Failure) -> NovaFastError:
    """The exception that a failure stands for."""
    return _BY_KIND[failure.kind](
        failure.message, code=failure.code, field=failure.field, hint=failure.hint, details=failure.details
    )
