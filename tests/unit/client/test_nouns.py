"""What the nouns make of arguments and answers, without a cloud."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from nova_fast.client import NewServer, Password, Settings, read_file
from nova_fast.client.aio.servers import AsyncServers
from nova_fast.client.answers import error_of
from nova_fast.client.requests import create_body, path_of, query_of
from nova_fast.config import ConfigError
from nova_fast.model.errors import Conflict, InternalError, NotFound, NovaFastError
from nova_fast.model.sdk import Answer, Ask

GONE = Answer(status=404, body=b"{}", failure=NotFound("it is gone").failure())


class Core:
    """Answers as it is told; another worker may be met meanwhile."""

    def __init__(self, answer: Answer, *, other_worker: bool = False) -> None:
        self._answer = answer
        self._other = other_worker
        self.workers_met = 1
        self.asked: list[Ask] = []

    async def ask(self, ask: Ask, *, alone: bool = False) -> Answer:
        self.asked.append(ask)
        self.workers_met += self._other
        return self._answer


def servers(core: Core) -> AsyncServers:
    return AsyncServers(core)  # type: ignore[arg-type]


def test_a_deletion_that_was_sent_twice_has_happened() -> None:
    asyncio.run(servers(Core(GONE, other_worker=True)).delete("a"))
    with pytest.raises(NotFound):
        asyncio.run(servers(Core(GONE)).delete("a"))


def test_each_change_has_a_key_of_its_own() -> None:
    core = Core(Answer(status=202, body=b'{"server_ids":["a"]}'))

    async def run() -> None:
        for _ in range(2):
            await servers(core).create(NewServer(name="n", flavor="1", image="i"))
            await servers(core).stop("a")

    asyncio.run(run())
    assert len({ask.key for ask in core.asked}) == 4 and all(len(ask.key) == 32 for ask in core.asked)


def test_what_is_asked_of_new_servers() -> None:
    wanted = NewServer(name="n", flavor="f", image="i", networks=("a", "b"), metadata={"k": "v"}, user_data=b"\0")
    body: dict[str, Any] = msgspec.json.decode(create_body(wanted, 5, all_or_nothing=True))
    assert body == {
        "server": {
            "name": "n", "flavorRef": "f", "imageRef": "i", "networks": [{"uuid": "a"}, {"uuid": "b"}],
            "min_count": 5, "max_count": 5, "metadata": {"k": "v"}, "user_data": "AA==",
        }
    }  # fmt: skip
    grouped = NewServer(name="n", flavor="f", image="i", hints={"group": "g"})
    body = msgspec.json.decode(create_body(grouped, 5, all_or_nothing=False))
    assert (body["server"]["min_count"], body["os:scheduler_hints"]) == (1, {"group": "g"})


def test_an_id_is_one_segment_whatever_it_holds() -> None:
    assert path_of("/v2.1/servers", "../../v3/users?a=b#c\n") == "/v2.1/servers/..%2F..%2Fv3%2Fusers%3Fa%3Db%23c%0A"
    assert path_of("/c", "1b2-3") == "/c/1b2-3"
    assert query_of({"name": "a&b", "all_tenants": True, "tags": ["x", "y"]}, "m") == (
        "?name=a%26b&all_tenants=true&tags=x&tags=y&marker=m"
    )


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"itemNotFound":{"code":409,"message":"no"}}', "no"),
        (b'{"NeutronError":{"type":"X","message":"none"}}', "none"),
        (b"<html>", "the cloud answered with status 409"),
    ],
)
def test_an_error_without_details_is_read_from_its_body(body: bytes, sentence: str) -> None:
    error = error_of(Answer(status=409, body=body, headers={"x-openstack-request-id": "req-1"}))
    assert (type(error), error.message, error.status, error.request_id) == (Conflict, sentence, 409, "req-1")
    assert isinstance(error_of(Answer(status=599, body=b"")), InternalError)


def test_an_answer_that_cannot_be_read_is_an_error_and_no_surprise() -> None:
    for body in (b"", b"{}", b'{"server":{"id":1}}', b"\xff"):
        with pytest.raises(NovaFastError, match="cannot be read"):
            asyncio.run(servers(Core(Answer(status=200, body=body))).get("a"))


def test_no_secret_is_shown() -> None:
    who = Password(username="u", password="hush", project="p")
    assert "hush" not in repr(who) + repr(Settings(addresses=("ipc://a",), token="hush", credentials=who))


def test_a_file_that_cannot_be_used_is_named(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOVA_FAST_SDK_FILE", str(tmp_path / "none.json"))
    with pytest.raises(ConfigError, match=r"none\.json: No such file"):
        read_file()
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"addresses": 1}')
    with pytest.raises(ConfigError, match=r"wrong\.json: Expected"):
        read_file(wrong)
