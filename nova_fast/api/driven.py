"""Work that seldom waits, driven by hand: no task and no turn of the loop for what ends at once."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any

Work = Coroutine[Any, Any, None]


def drive(work: Work) -> Work | None:
    """Run it until it ends or waits. None when it has ended; else the rest of it, for a task."""
    try:
        waiting = work.send(None)
    except StopIteration:
        return None
    return _rest(work, waiting)


async def _rest(work: Work, waiting: Any) -> None:
    await _resumed(work, waiting)


@types.coroutine
def _resumed(work: Work, waiting: Any) -> Generator[Any, Any, None]:
    while True:
        try:
            value = yield waiting
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:  # noqa: BLE001 - handed on to whom it is meant for
            step: Callable[[Any], Any] = work.throw
            value = error
        else:
            step = work.send
        try:
            waiting = step(value)
        except StopIteration:
            return
