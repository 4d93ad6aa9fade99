"""From an error to a status and a body, in the manner of each API, each in one function.

Sources: the error bodies of Nova, Keystone, Glance, Neutron and Placement as their API references show them.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from nova_fast.model.errors import Kind, NovaFastError

#: (status, message, code, request id) → JSON body
BodyMaker = Callable[[int, str, str, str], dict[str, Any]]

_STATUS: dict[Kind, int] = {
    Kind.BAD_REQUEST: 400,
    Kind.UNAUTHORIZED: 401,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.CONFLICT: 409,
    Kind.OVER_QUOTA: 403,
    Kind.TOO_LARGE: 413,
    Kind.UNPROCESSABLE: 422,
    Kind.UNSUPPORTED_MEDIA: 415,
    Kind.NOT_ACCEPTABLE: 406,
    Kind.NOT_IMPLEMENTED: 501,
    Kind.UNAVAILABLE: 503,
    Kind.INTERNAL: 500,
}


class ErrorStyle:
    """How one API says that something went wrong."""

    def __init__(self, body: BodyMaker, over_quota: int = 403) -> None:
        self.body = body
        self._status = _STATUS | {Kind.OVER_QUOTA: over_quota}

    def status(self, error: NovaFastError) -> int:
        """The HTTP status an error stands for in this API."""
        return self._status[error.kind]


def sentence(error: NovaFastError) -> str:
    """What a person reads: the message, the field at fault unless it is named already, and the hint."""
    message = error.message
    if error.field and error.field not in message:
        message = f"Invalid input for field/attribute {error.field}. {message}"
    if not error.hint:
        return message
    if message.endswith((".", "!", "?")):
        return f"{message} {error.hint[0].upper()}{error.hint[1:]}"
    return f"{message}; {error.hint}"


def title_of(status: int) -> str:
    """The standard phrase of a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


_NOVA_FAULTS = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    429: "overLimit",
    501: "notImplemented",
    503: "serviceUnavailable",
}


def nova_body(status: int, message: str, code: str, request_id: str) -> dict[str, Any]:
    """``{"badRequest": {"code": 400, "message": "…"}}``."""
    fault: dict[str, Any] = {"code": status, "message": message}
    if status in (413, 429):
        fault["retryAfter"] = "0"
    return {_NOVA_FAULTS.get(status, "computeFault"): fault}


def keystone_body(status: int, message: str, code: str, request_id: str) -> dict[str, Any]:
    """``{"error": {"code": 401, "title": "Unauthorized", "message": "…"}}``."""
    return {"error": {"code": status, "title": title_of(status), "message": message}}


def glance_body(status: int, message: str, code: str, request_id: str) -> dict[str, Any]:
    """Glance's JSON form: ``{"code": "404 Not Found", "title": "Not Found", "message": "…"}``."""
    return {"message": message, "code": f"{status} {title_of(status)}", "title": title_of(status)}


_NEUTRON_TYPES = {
    400: "HTTPBadRequest",
    401: "HTTPUnauthorized",
    403: "PolicyNotAuthorized",
    404: "HTTPNotFound",
    405: "HTTPMethodNotAllowed",
    409: "HTTPConflict",
    413: "HTTPRequestEntityTooLarge",
    415: "HTTPUnsupportedMediaType",
    501: "HTTPNotImplemented",
    503: "HTTPServiceUnavailable",
}


def neutron_body(status: int, message: str, code: str, request_id: str) -> dict[str, Any]:
    """``{"NeutronError": {"type": "NetworkNotFound", …}}``; a code in CamelCase is the type."""
    kind = code if code[:1].isupper() else _NEUTRON_TYPES.get(status, "HTTPInternalServerError")
    if code == Kind.OVER_QUOTA.value:
        kind = "OverQuota"
    return {"NeutronError": {"type": kind, "message": message, "detail": ""}}


def placement_body(status: int, message: str, code: str, request_id: str) -> dict[str, Any]:
    """``{"errors": [{"status", "title", "detail", "code", "request_id"}]}``."""
    dotted = code if code.startswith("placement.") else "placement.undefined_code"
    return {
        "errors": [
            {
                "status": status,
                "title": title_of(status),
                "detail": message,
                "code": dotted,
                "request_id": request_id,
            }
        ]
    }


NOVA = ErrorStyle(nova_body)
KEYSTONE = ErrorStyle(keystone_body)
GLANCE = ErrorStyle(glance_body, over_quota=413)
NEUTRON = ErrorStyle(neutron_body, over_quota=409)
PLACEMENT = ErrorStyle(placement_body, over_quota=409)
