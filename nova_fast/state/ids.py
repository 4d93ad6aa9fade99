"""UUIDs out of random digits."""

from __future__ import annotations

_TIME_MASK = (1 << 48) - 1


def uuids(digits: str) -> list[str]:
    """UUIDs of version 4, in order, one of each 32 random hexadecimal digits."""
    return sorted([_uuid(digits[at : at + 32]) for at in range(0, len(digits), 32)])


def timed_uuids(now_us: int, digits: str) -> list[str]:
    """UUIDs of version 7 (RFC 9562), in order: the time and 62 random bits, one of each 32 random hexadecimal digits.

    PERF: in a table that grows by the million, a random key changes a page of its own, and leaves pages a third
    empty; these go where the last went.
    """
    milliseconds, rest_us = divmod(now_us, 1000)
    time = f"{milliseconds & _TIME_MASK:012x}"
    begin = f"{time[:8]}-{time[8:]}-7{rest_us * 4096 // 1000:03x}-"
    ends = [digits[at : at + 16] for at in range(16, len(digits), 32)]
    return sorted([f"{begin}{_variant(end[0])}{end[1:4]}-{end[4:]}" for end in ends])


def _uuid(digits: str) -> str:
    """32 random hexadecimal digits as a UUID of version 4."""
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_variant(digits[16])}{digits[17:20]}-{digits[20:]}"


def _variant(digit: str) -> str:
    return "89ab"[int(digit, 16) & 3]
