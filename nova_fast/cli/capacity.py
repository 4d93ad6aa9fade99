"""``nova-fast capacity``: how many more servers of a flavor fit, asked of the running cloud."""

from __future__ import annotations

import asyncio
import os

import msgspec

from nova_fast.config import Config
from nova_fast.hub.local import local_peer
from nova_fast.model.errors import Unavailable
from nova_fast.model.tasks import AskCapacity, Capacity
from nova_fast.queries.capacity import described

CONNECT_TIMEOUT_S = 3
ANSWER_TIMEOUT_S = 15


def capacity(config: Config, ask: AskCapacity, *, as_json: bool) -> int:
    """Print it. Raises Unavailable when the cloud does not run, NotFound and BadRequest for what is asked."""
    answer = asyncio.run(_answer(config, ask))
    shown = described(answer)
    print(msgspec.json.format(msgspec.json.encode(shown)).decode() if as_json else text(answer))
    return 0


async def _answer(config: Config, ask: AskCapacity) -> Capacity:
    peer = local_peer(f"cli.{os.getpid()}", config)
    await peer.start()
    try:
        try:
            await peer.connected(CONNECT_TIMEOUT_S)
        except Unavailable as error:
            raise Unavailable(
                f"The cloud is not running: {error.message}.", code=error.code, hint="start it with nova-fast up"
            ) from None
        answer = await peer.call(ask, timeout_s=ANSWER_TIMEOUT_S)
    finally:
        await peer.close()
    assert isinstance(answer, Capacity)
    return answer


def text(capacity: Capacity) -> str:
    """An answer for a person."""
    servers = f"{capacity.servers} more {'server fits' if capacity.servers == 1 else 'servers fit'}"
    lines = [f"{servers} on {capacity.hosts} {'host' if capacity.hosts == 1 else 'hosts'}."]
    if capacity.first:
        lines.append(f"First: {capacity.first}")
    if capacity.last:
        lines.append(f"Last:  {capacity.last}")
    lines += [
        f"{one.filter} removed {one.before - one.after} of {one.before}"
        for one in capacity.filters
        if one.before > one.after
    ]
    if capacity.hint:
        lines.append(f"{capacity.hint[0].upper()}{capacity.hint[1:]}.")
    return "\n".join(lines)
