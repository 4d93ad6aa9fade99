"""Where snapshots come from, for rooms that read through queries and never see the store itself."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from nova_fast.state.reader import Reader as Reader  # re-exported: what every query takes


class Snapshots(Protocol):
    """Anything that gives consistent states to read from: an open store."""

    def snapshot(self) -> AbstractContextManager[Reader]:
        """One consistent state, as a context manager; never hold it across an await."""
        ...
