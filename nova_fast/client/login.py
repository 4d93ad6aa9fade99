"""The token of a client: given, or fetched with credentials, and then fetched anew before it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec

from nova_fast.client.answers import check
from nova_fast.client.settings import Settings
from nova_fast.model.errors import Kind, NovaFastError, Unauthorized
from nova_fast.model.sdk import Answer, Ask

log = logging.getLogger(__name__)

#: The part of a token's life after which the next one is fetched.
RENEW_AT = 0.8
_RETRY_S = 5.0


class _Token(msgspec.Struct, frozen=True):
    issued_at: datetime
    expires_at: datetime


class _Body(msgspec.Struct, frozen=True):
    token: _Token


_decode = msgspec.json.Decoder(_Body).decode


class Login:
    """Who we are at this moment."""

    def __init__(self, settings: Settings, ask: Callable[[Ask], Awaitable[Answer]]) -> None:
        self.token = settings.token
        self._credentials = settings.credentials
        self._ask = ask
        self._renew_at_s = float("inf")  # of the loop's clock
        self._renewing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Fetch the first token, unless one was given. Raises NovaFastError."""
        self._loop = asyncio.get_running_loop()
        if not self.token and self._credentials is not None:
            await self._fetch()

    async def close(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)

    def look(self) -> None:
        """Begin to fetch the next token when it is time; the present one is used meanwhile."""
        if self._loop.time() >= self._renew_at_s and self._renewing is None:
            self._begin()

    async def renew_after(self, answer: Answer) -> bool:
        """Whether there is another token after this 401. Raises NovaFastError when none is given to us any more."""
        code = answer.failure.code if answer.failure is not None else ""
        return await self._renewed(code)

    async def renew_because(self, error: NovaFastError) -> bool:
        """The same after an error."""
        return error.kind is Kind.UNAUTHORIZED and await self._renewed(error.code)

    async def _renewed(self, code: str) -> bool:
        if self._credentials is None or code not in ("void_token", "expired_token", "no_token"):
            return False
        await asyncio.shield(self._renewing or self._begin())
        return True

    def _begin(self) -> asyncio.Task[None]:
        task = self._renewing = self._loop.create_task(self._renew())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody need wait for it
        return task

    async def _renew(self) -> None:
        try:
            await self._fetch()
        except Unauthorized:
            self._renew_at_s = float("inf")
            raise
        except NovaFastError as error:
            log.warning("no new token yet: %s", error.message)
            self._renew_at_s = self._loop.time() + _RETRY_S
            raise
        finally:
            self._renewing = None

    async def _fetch(self) -> None:
        assert self._credentials is not None
        body = msgspec.json.encode(self._credentials.auth())
        answer = check(await self._ask(Ask("identity", "POST", "/v3/auth/tokens?nocatalog", body)))
        token = _decode(answer.body).token
        self.token = answer.headers["x-subject-token"]
        life_s = (token.expires_at - token.issued_at).total_seconds()
        self._renew_at_s = self._loop.time() + RENEW_AT * max(1.0, life_s)
