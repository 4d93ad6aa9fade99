"""Passwords and the secrets of application credentials: how they are kept, and how they are checked.

Passwords are chosen by people, so they are hashed with argon2id at the cost OWASP names (19 MiB, 2 passes, 1 lane), in
a thread, at most two at a time. Secrets of application credentials are 256 random bits made here, which no guessing
finds; for them one SHA-256 is as good and lets programs log in often. A secret the client chose is hashed like a
password.
See docs/decisions/password-hash.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from concurrent.futures import ThreadPoolExecutor

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

_HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, hash_len=32, salt_len=16)
#: A hash that no password has: checking against it costs what a real check costs.
_NOBODY = _HASHER.hash(secrets.token_urlsafe(32))
_FAST = "sha256$"
#: argon2 releases the interpreter lock; more threads than this would only take cores and memory from others.
_POOL = ThreadPoolExecutor(max_workers=2, thread_name_prefix="password")


def hash_password(password: str) -> str:
    """The argon2id hash of a password (about 20 ms of one core)."""
    return _HASHER.hash(password)


def verify_password(stored: str, password: str) -> bool:
    """Whether a password fits; costs the same when there is nothing stored (an unknown user)."""
    try:
        _HASHER.verify(stored or _NOBODY, password)
    except (VerificationError, InvalidHashError):
        return False
    return bool(stored)


async def hash_in_thread(password: str) -> str:
    """:func:`hash_password` without holding up the loop."""
    return await asyncio.get_running_loop().run_in_executor(_POOL, hash_password, password)


async def verify_in_thread(stored: str, password: str) -> bool:
    """:func:`verify_password` without holding up the loop."""
    return await asyncio.get_running_loop().run_in_executor(_POOL, verify_password, stored, password)


def new_secret() -> str:
    """A secret of 256 random bits for an application credential."""
    return secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """The hash of a secret made by :func:`new_secret`."""
    return _FAST + hashlib.sha256(secret.encode()).hexdigest()


async def verify_secret(stored: str, secret: str) -> bool:
    """Whether a secret fits what is stored; "" = an unknown credential."""
    if stored.startswith(_FAST):
        return hmac.compare_digest(stored, hash_secret(secret))
    if not stored:
        hmac.compare_digest(_FAST + "0" * 64, hash_secret(secret))
        return False
    return await verify_in_thread(stored, secret)
