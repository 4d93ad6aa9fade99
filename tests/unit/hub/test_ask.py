"""Asking without a coroutine: one function is told once how it ended, whatever happens."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest

from nova_fast.config import HubConfig
from nova_fast.hub.limits import Limits
from nova_fast.hub.server import HubServer
from nova_fast.model.base import Message
from nova_fast.model.errors import NotFound, NovaFastError
from nova_fast.model.tasks import ConsoleOutput, ReadConsole
from tests.unit.hub.rig import TRANSPORTS, Rig, run, until

CONSOLE = ReadConsole(server_id="s", domain_name="d")
HOST = "compute@h"


class Heard:
    """What a caller was told, in order."""

    def __init__(self, server: HubServer) -> None:
        self.outcomes: list[Message | NovaFastError] = []
        self._server = server

    def ask(self, call_id: bytes = b"", timeout_s: float = 60.0, also: Callable[[], None] = lambda: None) -> None:
        def ended(outcome: Message | NovaFastError) -> None:
            self.outcomes.append(outcome)
            also()

        self._server.ask(HOST, CONSOLE, timeout_s=timeout_s, call_id=call_id or os.urandom(16), ended=ended)

    @property
    def codes(self) -> list[str]:
        return [outcome.code if isinstance(outcome, NovaFastError) else "" for outcome in self.outcomes]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_answer_and_what_the_peer_raises_are_told(transport: str) -> None:
    async def test() -> None:
        async with Rig(transport) as rig:
            server = await rig.start(rig.new_server())
            peer = rig.new_peer(HOST)
            answers: list[Message | NovaFastError] = [ConsoleOutput(text="a"), NotFound("no guest", code="no_guest")]

            def console(_message: ReadConsole, _call_id: bytes) -> Message:
                answer = answers.pop(0)
                if isinstance(answer, NovaFastError):
                    raise answer
                return answer

            peer.handle(ReadConsole, console)
            await rig.join(peer)
            heard = Heard(server)
            for _ in range(2):
                heard.ask()
            await until(lambda: len(heard.outcomes) == 2)
            assert heard.outcomes[0] == ConsoleOutput(text="a")
            assert isinstance(heard.outcomes[1], NotFound)
            assert heard.codes[1] == "no_guest"

    run(test)


def test_two_who_ask_with_one_id_are_both_told_and_it_runs_once() -> None:
    async def test() -> None:
        async with Rig() as rig:
            server = await rig.start(rig.new_server())
            peer = rig.new_peer(HOST)
            ran: list[bytes] = []
            peer.handle(ReadConsole, lambda m, i: ran.append(i) or ConsoleOutput(text=""))
            await rig.join(peer)
            first, second, call_id = Heard(server), Heard(server), os.urandom(16)
            first.ask(call_id)
            second.ask(call_id)
            await until(lambda: bool(first.outcomes and second.outcomes))
            assert first.outcomes == second.outcomes == [ConsoleOutput(text="")]
            assert ran == [call_id]

    run(test)


def test_what_is_told_that_fails_stops_neither_the_others_nor_the_hub(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with Rig() as rig:
            server = await rig.start(rig.new_server())
            peer = rig.new_peer(HOST)
            peer.handle(ReadConsole, lambda m, i: ConsoleOutput(text=""))
            await rig.join(peer)
            wrong, right, call_id = Heard(server), Heard(server), os.urandom(16)

            def fail() -> None:
                raise ValueError("not foreseen")

            wrong.ask(call_id, also=fail)
            right.ask(call_id)
            right.ask()
            await until(lambda: len(right.outcomes) == 2)
            assert len(wrong.outcomes) == 1

    run(test)
    assert "not foreseen" in caplog.text


def test_why_there_is_no_answer_is_told_once() -> None:
    async def test() -> None:
        config = HubConfig(heartbeat_s=1, down_after_s=5, credits=1)
        async with Rig(config=config, limits=Limits(waiting_calls_max=1)) as rig:
            server = rig.new_server()
            heard = Heard(server)
            heard.ask()
            assert heard.codes == ["hub_closed"]  # it is not open yet
            await rig.start(server)
            heard.ask(timeout_s=0.0)
            heard.ask(timeout_s=0.1)  # nobody is there
            heard.ask(timeout_s=30.0)
            assert heard.codes == ["hub_closed", "deadline_passed", "queue_full"]
            await until(lambda: len(heard.outcomes) == 4)
            heard.ask(timeout_s=30.0)
            await server.close()
            await asyncio.sleep(0.05)
            codes = ["hub_closed", "deadline_passed", "queue_full", "deadline_passed", "hub_closed"]
            assert heard.codes == codes

    run(test)
