"""Telling somebody else's function something, without letting its error stop the hub."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ParamSpec

_log = logging.getLogger(__name__)

P = ParamSpec("P")


def tell(callback: Callable[P, None] | None, *args: P.args, **kwargs: P.kwargs) -> None:
    """Call it if there is one; what it raises is logged."""
    if callback is None:
        return
    try:
        callback(*args, **kwargs)
    except Exception:  # noqa: BLE001 - logged, and the hub goes on
        _log.exception("a callback of the hub failed")
