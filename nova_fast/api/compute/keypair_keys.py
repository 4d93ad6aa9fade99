"""Public keys: what a well-formed one is, its fingerprint, and making a new pair.

Source: Nova's ``nova/crypto.py``: an SSH fingerprint is the MD5 of the key's bytes in hexadecimal pairs, an X.509 one
the SHA-1 of the certificate; a pair made by the service is RSA with 2,048 bits, its private half is given out once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from nova_fast.model.errors import BadRequest

RSA_BITS = 2048
KEY_CHARACTERS_MAX = 65_535
_TYPE = re.compile(
    r"ssh-(rsa|dss|ed25519)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com"
)


class NewPair(msgspec.Struct, frozen=True):
    private_key: str  # PEM
    public_key: str
    fingerprint: str


def _pairs(digest: bytes) -> str:
    return ":".join(f"{byte:02x}" for byte in digest)


def ssh_fingerprint(public_key: str) -> str:
    """The fingerprint of an OpenSSH public key. Raises BadRequest when it is none."""
    fields = public_key.split()
    if len(public_key) > KEY_CHARACTERS_MAX or len(fields) < 2 or not _TYPE.fullmatch(fields[0]):
        raise _bad("it must be one line of the form 'ssh-ed25519 AAAA… comment'")
    try:
        blob = base64.b64decode(fields[1], validate=True)
    except (binascii.Error, ValueError):
        raise _bad("its second field is not base64") from None
    name = fields[0].encode()
    if len(blob) <= 4 + len(name) or blob[:4] != len(name).to_bytes(4, "big") or blob[4 : 4 + len(name)] != name:
        raise _bad("its content is not of the type it names")
    return _pairs(hashlib.md5(blob, usedforsecurity=False).digest())


def x509_fingerprint(certificate: str) -> str:
    """The fingerprint of a PEM certificate. Raises BadRequest when it is none."""
    try:
        parsed = x509.load_pem_x509_certificate(certificate.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise _bad("it is no X.509 certificate in PEM form") from None
    return _pairs(parsed.fingerprint(hashes.SHA1()))  # noqa: S303 - names the certificate, protects nothing


def generate() -> NewPair:
    """A new RSA pair. Takes some tens of milliseconds: run it in a thread."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return pair_of(private.decode())


def pair_of(private_key: str) -> NewPair:
    """The pair to which a private key belongs that was made here."""
    key = serialization.load_pem_private_key(private_key.encode(), password=None)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    public_key = f"{public.decode()} Generated-by-Nova"
    return NewPair(private_key=private_key, public_key=public_key, fingerprint=ssh_fingerprint(public_key))


def _bad(why: str) -> BadRequest:
    return BadRequest(f"Keypair data is invalid: {why}.", code="bad_public_key", field="public_key")
