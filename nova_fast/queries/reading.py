"""Where snapshots come from, for rooms that read through queries and never see the store itself."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from nova_fast.state.reader import Reader as Reader  # re-exported: what every query takes
from nova_fast.state.store import Store, StoreError

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 0.05


class Snapshots(Protocol):
    """Anything that gives consistent states to read from: an open store."""

    def snapshot(self) -> AbstractContextManager[Reader]:
        """One consistent state, as a context manager; never hold it across an await."""
        ...


class OpenStore(Snapshots, Protocol):
    """A store that this process has opened for reading."""

    def reader_check(self) -> int:
        """Clear the slots of readers that died; returns how many."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


async def open_when_made(path: Path, stop: asyncio.Event) -> OpenStore | None:
    """The store for reading, as soon as the conductor has made it; None when the daemon is stopped before."""
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
