"""The door: a hub in this worker that clients of the SDK connect to."""

from __future__ import annotations

import asyncio
import logging

from nova_fast.api.framework.build import Application
from nova_fast.api.framework.request import Runtime
from nova_fast.api.zmq.inside import Inside, refusal
from nova_fast.api.zmq.keys import KeyTokens, door_keys
from nova_fast.api.zmq.turns import Batch, Turns
from nova_fast.api.zmq.watching import Watching
from nova_fast.config import Config, HubConfig
from nova_fast.hub.contracts import SDK
from nova_fast.hub.limits import Limits
from nova_fast.hub.server import HubServer, Incoming
from nova_fast.model.errors import BadRequest, NovaFastError, TooLarge
from nova_fast.model.sdk import ASKS_MAX, Answer, Asks, Seen, Watch

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
DOWN_AFTER_S = 4.0
MESSAGE_BYTES_MAX = 20 << 20  # of asks or answers
PIPE_FRAMES = 8  # PERF: few, because each may be so large and ZeroMQ counts no bytes; 32 are no faster
KEYS_LOOK_S = 1.0
_HINT = "ask for smaller pages, or for fewer at once"


def limits(config: Config) -> Limits:
    """What the door puts up with.

    What it did is remembered only as long as an answer may be lost on its way: reads are repeated, and POSTs have their
    Idempotency-Key. SAFETY: nothing here waits for a client that does not read; who has frames in his outbox is not
    served, so he holds a pipe full of answers and no more.
    """
    return Limits(
        running_calls_max=2 * config.sdk.credits,
        outbox_frames_max=2 * config.sdk.credits,
        answers_max=2 * config.sdk.credits,
        answers_bytes_max=1 << 20,
        answers_age_s=30.0,
        message_bytes_max=MESSAGE_BYTES_MAX,
        pipe_frames=PIPE_FRAMES,
        peers_max=config.sdk.clients_max,
        forget_after_s=5.0,
    )


def _too_large(bytes_max: int) -> Answer:
    return refusal(TooLarge(f"The answers have over {bytes_max} bytes.", code="answer_too_large", hint=_HINT))


class Door:
    """Lets clients in, has their asks answered by the application, and lets them watch."""

    def __init__(self, config: Config, worker: int, app: Application, runtime: Runtime) -> None:
        """Raises ConfigError."""
        address = config.sdk_address(worker)
        self._keys = door_keys(config)
        self._tokens = KeyTokens(self._keys, runtime)
        hub = HubConfig(heartbeat_s=HEARTBEAT_S, down_after_s=DOWN_AFTER_S, credits=config.sdk.credits)
        self._hub = HubServer(address, config=hub, keys=self._keys, limits=limits(config), contracts=SDK)
        self._inside = Inside(app, config, runtime.store)
        self._turns = Turns(_too_large, self._hub.is_stuck, self._inside.moment)
        self._watching = Watching(runtime.store)
        self._timer: asyncio.TimerHandle | None = None
        self._hub.handle_batch((Asks,), self._ask_all)
        self._hub.handle(Watch, self._watch)
        self._hub.on_peer_down = self._hub.forget  # each client has a name of its own, and it does not come back

    @property
    def address(self) -> str:
        return self._hub.address

    async def start(self) -> None:
        """Let clients in. Raises ConfigError when the address cannot be bound."""
        await self._hub.start()
        self._look_at_keys()
        log.info("clients of the SDK are let in at %s", self._hub.address)

    async def close(self) -> None:
        """Let nobody in any more; clients go on with another worker."""
        if self._timer is not None:
            self._timer.cancel()
        self._watching.close()
        await self._turns.close()
        await self._hub.close()

    def _ask_all(self, calls: list[Incoming]) -> None:
        for call in calls:
            message = call.message
            assert isinstance(message, Asks)
            try:
                self._turns.add(self._batch(call, message))
            except NovaFastError as error:
                call.reply(error)

    def _batch(self, call: Incoming, message: Asks) -> Batch:
        if not 1 <= len(message.asks) <= ASKS_MAX:
            raise BadRequest(f"A message has 1 to {ASKS_MAX} asks.", code="bad_ask", field="asks")
        speaker = self._inside.speaker(self._token(call.peer, message.token))
        return Batch(call, message.asks, speaker.ask)

    async def _watch(self, peer: str, message: Watch, call_id: bytes) -> Seen:
        return await self._watching.answer(peer, message, self._token(peer, message.token))

    def _token(self, peer: str, given: str) -> bytes:
        """The token that speaks for a message: its own, else that of the client's key."""
        if given:
            return given.encode("latin-1", "replace")
        return self._tokens.token_of(self._hub.key_of(peer)) if self._keys is not None else b""

    def _look_at_keys(self) -> None:
        if self._keys is not None:
            self._tokens.look()
            self._timer = asyncio.get_running_loop().call_later(KEYS_LOOK_S, self._look_at_keys)
