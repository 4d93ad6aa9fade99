"""Tokens: sealed facts that any worker can open; ``grants`` says what they grant at this moment.

A token is stateless: AES-256-GCM over a few bytes of msgpack, base64url, less than 255 characters. It says who logged
in, how, for what scope and until when; roles are not in it but read from the assignments each time, so that taking a
role away works at once. Revocation is by audit id, or by time (``User.tokens_valid_from_us``).
"""

from __future__ import annotations

import base64
import binascii
import os
import re

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nova_fast.model.errors import Unauthorized

KEY_BYTES = 32
TOKEN_CHARACTERS_MAX = 255

_FORMAT = b"\x01"
_NONCE_BYTES = 12
_METHODS = ("password", "token", "application_credential")
_HEX = re.compile(r"([0-9a-f]{2})+")
_SCOPES = ("", "project", "domain", "system")


class TokenFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says."""

    user_id: str
    methods: tuple[str, ...]
    scope_type: str  # "" (unscoped), project, domain, system
    scope_id: str
    issued_at_us: int
    expires_at_us: int
    audit_id: str  # 22 characters of base64url
    parent_audit_id: str = ""  # of the first token of the chain
    credential_id: str = ""  # the application credential it came from


class _Sealed(msgspec.Struct, frozen=True, array_like=True):
    """The payload: ids as :func:`_short` makes them, names as numbers."""

    user: bytes
    methods: int
    scope: int
    scope_id: bytes
    issued_at_us: int
    expires_at_us: int
    audit: bytes
    parent: bytes
    credential: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Sealed).decode


def new_audit_id() -> str:
    """A fresh audit id."""
    return _to_text(os.urandom(16))


def seal(key: bytes, facts: TokenFacts) -> str:
    """Facts → the token a client carries."""
    assert len(key) == KEY_BYTES
    payload = _Sealed(
        _short(facts.user_id),
        sum(1 << _METHODS.index(method) for method in facts.methods),
        _SCOPES.index(facts.scope_type),
        _short(facts.scope_id),
        facts.issued_at_us,
        facts.expires_at_us,
        _to_bytes(facts.audit_id),
        _to_bytes(facts.parent_audit_id),
        _short(facts.credential_id),
    )
    nonce = os.urandom(_NONCE_BYTES)
    token = _to_text(_FORMAT + nonce + AESGCM(key).encrypt(nonce, _encode(payload), _FORMAT))
    assert len(token) < TOKEN_CHARACTERS_MAX, "a token must fit everywhere"
    return token


def unseal(key: bytes, token: str) -> TokenFacts:
    """The facts of a token. Raises Unauthorized for anything this key did not seal."""
    if len(token) >= TOKEN_CHARACTERS_MAX:
        raise void()
    try:
        raw = _to_bytes(token)
        nonce, box = raw[1 : 1 + _NONCE_BYTES], raw[1 + _NONCE_BYTES :]
        if raw[:1] != _FORMAT or len(nonce) != _NONCE_BYTES or len(box) < 16:
            raise void()
        payload = _decode(AESGCM(key).decrypt(nonce, box, _FORMAT))
    except (InvalidTag, msgspec.DecodeError, binascii.Error, ValueError):
        raise void() from None
    return TokenFacts(
        user_id=_long(payload.user),
        methods=tuple(name for bit, name in enumerate(_METHODS) if payload.methods >> bit & 1),
        scope_type=_SCOPES[payload.scope],
        scope_id=_long(payload.scope_id),
        issued_at_us=payload.issued_at_us,
        expires_at_us=payload.expires_at_us,
        audit_id=_to_text(payload.audit),
        parent_audit_id=_to_text(payload.parent),
        credential_id=_long(payload.credential),
    )


def void() -> Unauthorized:
    """The one answer to every token that does not hold, whatever the reason."""
    return Unauthorized("The request you have made requires authentication.", code="void_token")


def _short(identifier: str) -> bytes:
    """An id as bytes: hexadecimal ones at half their length, marked so that no other can be mistaken for one."""
    if _HEX.fullmatch(identifier):
        return b"\0" + bytes.fromhex(identifier)
    return identifier.encode()


def _long(raw: bytes) -> str:
    return raw[1:].hex() if raw[:1] == b"\0" else raw.decode()


def _to_text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _to_bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
