"""Microversions: one header in, one number inside, two headers out.

A version is kept as ``major * 1000 + minor``, so 2.96 is 2096 and comparisons are comparisons of integers.
Source: the API guidelines of OpenStack (microversion specification) and Nova's and Placement's error texts.
"""

from __future__ import annotations

import functools
import re

from nova_fast.model.errors import BadRequest, NotAcceptable

_FORM = re.compile(r"([1-9]\d{0,3})\.(0|[1-9]\d{0,2})")
_HEADER = b"openstack-api-version"
_KEPT_BYTES_MAX = 100


@functools.lru_cache(maxsize=512)
def parse_version(text: str) -> int:
    """``"2.96"`` → 2096. Raises BadRequest for another form."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise BadRequest(
            f"API Version String {text[:40]} is of invalid format. Must be of format MajorNum.MinorNum.",
            code="malformed_version",
        )
    return int(match[1]) * 1000 + int(match[2])


def show_version(version: int) -> str:
    """2096 → ``"2.96"``."""
    return f"{version // 1000}.{version % 1000}"


class Microversions:
    """The range a face really implements, and the headers that speak of it."""

    def __init__(self, service_type: str, minimum: str, maximum: str, legacy_header: str = "") -> None:
        self.service_type = service_type
        self.minimum = parse_version(minimum)
        self.maximum = parse_version(maximum)
        self.legacy_header = legacy_header
        self._legacy_key = legacy_header.lower().encode()
        self._answers: dict[int, dict[str, str]] = {}
        self._asked: dict[bytes, int] = {}

    def negotiate(self, headers: dict[bytes, bytes]) -> int:
        """The version a request asks for; no header = the minimum. Raises BadRequest, NotAcceptable."""
        value = headers.get(_HEADER)
        if value is not None:
            known = self._asked.get(value)
            if known is not None:
                return known
            version = self._of_service(value)
            if version is not None:
                # PERF: the same few header values come with every request; refused and long ones are never kept
                if len(self._asked) < 1000 and len(value) <= _KEPT_BYTES_MAX:
                    self._asked[value] = version
                return version
        if self._legacy_key:
            legacy = headers.get(self._legacy_key)
            if legacy is not None:
                return self._accept(legacy.decode("latin-1").strip())
        return self.minimum

    def _of_service(self, value: bytes) -> int | None:
        for part in value.decode("latin-1").split(","):
            words = part.split()
            if words and words[0].lower() == self.service_type:
                if len(words) != 2:
                    raise BadRequest("OpenStack-API-Version must name a service and a version.")
                return self._accept(words[1])
        return None

    def _accept(self, text: str) -> int:
        if text.lower() == "latest":
            return self.maximum
        version = parse_version(text)
        if version == self.minimum // 1000 * 1000:
            return self.minimum
        if not self.minimum <= version <= self.maximum:
            raise NotAcceptable(
                f"Version {text} is not supported by the API. Minimum is {show_version(self.minimum)} "
                f"and maximum is {show_version(self.maximum)}.",
                code="version_out_of_range",
            )
        return version

    def answer_headers(self, version: int | None) -> dict[str, str]:
        """What every answer says about versions; ``None`` = no version could be parsed."""
        found = self._answers.get(version or 0)
        if found is None:
            names = ["OpenStack-API-Version"] + ([self.legacy_header] if self.legacy_header else [])
            found = {"vary": ", ".join(names)}
            if version is not None:
                found["openstack-api-version"] = f"{self.service_type} {show_version(version)}"
                if self.legacy_header:
                    found[self.legacy_header.lower()] = show_version(version)
            self._answers[version or 0] = found
        return found
