"""The core for programs without an event loop: it runs in a thread of its own, and any thread may call it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import uvloop

from nova_fast.client.core import AsyncCore
from nova_fast.client.settings import Settings
from nova_fast.client.shared_watch import Following, News
from nova_fast.model.sdk import Answer, Ask, Seen

T = TypeVar("T")


class Core:
    """The same calls as :class:`~nova_fast.client.core.AsyncCore`, each returning when it is answered."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError."""
        self._core = AsyncCore(settings)
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nova-fast-client", daemon=True)

    def open(self) -> None:
        """Connect and log in. Raises NovaFastError."""
        self._thread.start()
        try:
            self._run(self._core.open())
        except BaseException:
            self._end()
            raise

    def close(self) -> None:
        """Hang up and end the thread; calls without an answer fail with Unavailable."""
        if self._thread.is_alive():
            try:
                self._run(self._core.close())
            finally:
                self._end()

    @property
    def workers_met(self) -> int:
        """How many processes have answered so far."""
        return self._core.workers_met

    def ask(self, ask: Ask, *, alone: bool = False) -> Answer:
        """One call."""
        return self._run(self._core.ask(ask, alone=alone))

    def ask_all(self, asks: Sequence[Ask]) -> list[Answer]:
        """Many reads, pipelined; their answers in the same order."""
        return self._run(self._core.ask_all(asks))

    def watch(self, after: int, limit: int, wait_s: float) -> Seen:
        """What happened after a generation."""
        return self._run(self._core.watch(after, limit, wait_s))

    def follow(self, server_ids: Iterable[str]) -> Following:
        """Hear of these servers from now on."""
        return self._run(self._core.follow(server_ids))

    def hear(self, following: Following, wait_s: float) -> News:
        """What happened to them since the last call."""
        return self._run(self._core.hear(following, wait_s))

    def leave(self, following: Following) -> None:
        """Hear no more of them."""
        self._run(self._core.leave(following))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
