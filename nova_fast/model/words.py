"""Words for true and false in extra specs, properties and bodies, as OpenStack reads them.

Source: oslo.utils, ``strutils.bool_from_string``.
"""

from __future__ import annotations

TRUE_WORDS = frozenset(("1", "t", "true", "on", "y", "yes"))
FALSE_WORDS = frozenset(("0", "f", "false", "off", "n", "no"))


def is_true(text: str) -> bool:
    """Whether a text says yes; anything else says no."""
    return text.strip().lower() in TRUE_WORDS
