"""Hashes of passwords and secrets."""

from __future__ import annotations

import asyncio
import time

from nova_fast.identity.passwords import hash_password, hash_secret, new_secret, verify_password, verify_secret


def test_only_the_right_password_fits_and_two_hashes_differ() -> None:
    stored = hash_password("pässword")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert stored != hash_password("pässword")
    assert verify_password(stored, "pässword")
    assert not verify_password(stored, "password")
    assert not verify_password("not a hash", "password")


def test_nobody_has_no_password_and_asking_costs_the_same() -> None:
    def took_s(stored: str) -> float:
        started = time.process_time()
        assert not verify_password(stored, "guess")
        return time.process_time() - started

    stored = hash_password("x")
    known, unknown = (min(times) for times in zip(*((took_s(stored), took_s("")) for _ in range(7)), strict=True))
    assert 0.3 < unknown / known < 3


def test_secrets_are_long_and_only_the_right_one_fits() -> None:
    secret = new_secret()
    assert len(secret) >= 43 and secret != new_secret()
    assert asyncio.run(verify_secret(hash_secret(secret), secret))
    assert not asyncio.run(verify_secret(hash_secret(secret), secret + "x"))
    assert not asyncio.run(verify_secret("", secret))
    assert asyncio.run(verify_secret(hash_password("by hand"), "by hand"))
