"""``Idempotency-Key``: a POST that is sent again is answered as the first time, and does nothing.

A key belongs to a user in a project, and to a method and path of a face. What the request's command brought is kept
under a digest of all that, in the transaction of the command itself; so after any crash either both are there or
neither. A repetition runs the handler again, but finds its commands done. A secret that a handler makes (a password, a
private key) is kept beside the result under a key made from the client's, which the store does not have.
docs/decisions/idempotency.md says why.
"""

from __future__ import annotations

import os
import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nova_fast.api.framework.route import Answer, Face, Handler
from nova_fast.hub.contracts import ENCODER, decoder_of
from nova_fast.model.base import Message
from nova_fast.model.commands import RESULTS
from nova_fast.model.commands.keyed import DONE_BEFORE, KeyedCommand
from nova_fast.model.errors import BadRequest, Conflict, NovaFastError, Unprocessable
from nova_fast.model.keyed import KeyedAnswer
from nova_fast.queries import keyed

if TYPE_CHECKING:
    from nova_fast.api.framework.request import Commander, Request

HEADER = b"idempotency-key"
REPLAYED = "idempotency-replayed"
KEY_CHARACTERS_MAX = 255
_BARE = re.compile(rb"[!#-+\--~]+")  # visible ASCII without quote and comma
_QUOTED = re.compile(rb'"((?:[ !#-\[\]-~]|\\["\\])*)"')  # a string of RFC 8941
_NONCE_BYTES = 12
_decode_result = decoder_of(RESULTS).decode


async def answer_once(request: Request, face: Face, handler: Handler, named: dict[str, str]) -> Any:
    """What the handler answers, now or the first time. Raises NovaFastError."""
    key = read_key(request.scope["headers"])
    request.once = Once(request, face, key)
    try:
        answer = await handler(request, **named)
    except NovaFastError as error:
        if error.code != DONE_BEFORE:
            raise
        # The same request has overtaken this one on another connection; its answer can be read now.
        request.once = Once(request, face, key)
        answer = await handler(request, **named)
    if request.once.replayed:
        if not isinstance(answer, Answer):
            answer = Answer(body=answer)
        answer.headers[REPLAYED] = "true"
    return answer


def read_key(headers: list[tuple[bytes, bytes]]) -> bytes:
    """The key of a request: a quoted string as the draft has it, or the same without quotes. Raises BadRequest."""
    values = [value.strip(b" \t") for name, value in headers if name == HEADER]
    if len(values) != 1:
        raise _bad("it may be given once only")
    value = values[0]
    quoted = _QUOTED.fullmatch(value)
    if quoted is not None:
        value = re.sub(rb"\\(.)", rb"\1", quoted[1])
    elif _BARE.fullmatch(value) is None:
        raise _bad("it must be visible ASCII, best a UUID in quotes")
    if not 0 < len(value) <= KEY_CHARACTERS_MAX:
        raise _bad(f"it must have 1 to {KEY_CHARACTERS_MAX} characters")
    return value


class Once:
    """The key of one request. Commands count from zero, so that a handler may send several."""

    __slots__ = ("_count", "_fingerprint", "_owner", "_request", "_row", "_scope", "_secret", "replayed")

    def __init__(self, request: Request, face: Face, key: bytes) -> None:
        """Raises Unprocessable when the key came with another request before."""
        caller, scope = request.caller, request.scope
        who = (caller.user_id, caller.project_id, caller.domain_id, str(caller.system))
        what = (face.name, request.method, scope["path"].rstrip("/"))
        body = scope.get("nova_fast.body", b"")
        version = str(request.version).encode()
        self._request = request
        self._owner = f"{caller.user_id}/{caller.project_id}"
        self._scope = _digest(b"nf.scope", *(part.encode() for part in (*who, *what)), key)
        self._fingerprint = _digest(b"nf.request", version, scope["query_string"], body)
        self._count = 0
        self._secret: str | None = None
        self.replayed = False
        # SAFETY: looked up once for each command; a secret and a result of two different attempts must not meet.
        self._row = self._kept()

    async def run(self, commander: Commander, command: Message) -> Message:
        """Have a command done, unless it was; its result either way."""
        row = self._row
        if row is not None:
            self.replayed = True
            self._next()
            return _decode_result(row.result)
        wrapped = KeyedCommand(
            id=self._id(),
            owner=self._owner,
            fingerprint=self._fingerprint,
            sealed=b"" if self._secret is None else self._seal(self._secret),
            command=ENCODER.encode(command),
        )
        result = await commander.run(wrapped, self._request.request_id)
        self._next()
        return result

    def remembered(self) -> str | None:
        """The secret that was given with the next command when it was done; None when it was not."""
        row = self._row
        if row is None or not row.sealed:
            return None
        try:
            return self._cipher().decrypt(row.sealed[:_NONCE_BYTES], row.sealed[_NONCE_BYTES:], None).decode()
        except InvalidTag:
            raise Conflict("The answer to this Idempotency-Key cannot be read any more.", code="sealed") from None

    def remember(self, secret: str) -> None:
        """Keep this secret with the next command."""
        self._secret = secret

    def _next(self) -> None:
        self._count, self._secret = self._count + 1, None
        self._row = self._kept()

    def _kept(self) -> KeyedAnswer | None:
        with self._request.snapshot() as snapshot:
            row = keyed.answer(snapshot, self._id())
        if row is not None and row.fingerprint != self._fingerprint:
            raise Unprocessable(
                "This Idempotency-Key was used for another request.",
                code="idempotency_key_reused",
                field="Idempotency-Key",
                hint="use a new key for each request, and repeat a request unchanged",
            )
        return row

    def _id(self) -> str:
        return _digest(b"nf.id", self._scope, str(self._count).encode())[:16].hex()

    def _cipher(self) -> AESGCM:
        # SAFETY: the store has neither the client's key nor this digest of it, only others that lead to neither.
        return AESGCM(_digest(b"nf.seal", self._scope))

    def _seal(self, secret: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher().encrypt(nonce, secret.encode(), None)


def _digest(purpose: bytes, *parts: bytes) -> bytes:
    """32 bytes; no other purpose and no other division into parts gives the same."""
    digest = blake2b(digest_size=32, person=purpose)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def _bad(why: str) -> BadRequest:
    return BadRequest(f"Malformed Idempotency-Key: {why}.", code="bad_idempotency_key", field="Idempotency-Key")
