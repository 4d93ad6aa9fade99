"""Opening the store in a daemon that may start before the conductor has made it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from nova_fast.state.store import Store, StoreError

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 0.05


async def open_when_made(path: Path, stop: asyncio.Event) -> Store | None:
    """The store for reading, as soon as it is there; None when the daemon is stopped before."""
    told = False
    while not stop.is_set():
        try:
            return Store.open(path, readonly=True)
        except StoreError as error:
            if not told:
                log.info("waiting for the conductor: %s", error)
                told = True
            await asyncio.sleep(LOOK_AGAIN_S)
    return None
