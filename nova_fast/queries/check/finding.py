"""What a check says."""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One disagreement."""

    subject: str  # what was checked
    key: str  # of the record at fault
    sentence: str
