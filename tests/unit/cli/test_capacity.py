"""``nova-fast capacity``: the words, over a real hub, and what is said when there is none."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest

from bench.ports import free_ports
from nova_fast.cli import capacity, main
from nova_fast.config import Config, load
from nova_fast.hub.local import local_server_keys
from nova_fast.hub.server import HubServer
from nova_fast.model.base import Message
from nova_fast.model.errors import NotFound
from nova_fast.model.tasks import AskCapacity, Capacity, FilterCount


def config_file(folder: Path, address: str = "") -> str:
    hub = f'\n[hub]\naddress = "{address}"\n' if address else ""
    path = folder / "nova-fast.toml"
    path.write_text(f'state_dir = "{folder / "v"}"\n{hub}')
    return str(path)


class Conductor(threading.Thread):
    """A hub on a loop of its own that answers one question."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._config = config
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self.up = threading.Event()
        self.asked: list[tuple[str, AskCapacity]] = []

    def run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        keys = local_server_keys(self._config)
        config = self._config
        hub = HubServer(config.hub_address, local_address=config.hub_local_address, config=config.hub, keys=keys)
        hub.handle(AskCapacity, self._answer)
        await hub.start()
        self.up.set()
        await self._over.wait()
        await hub.close()

    def _answer(self, peer: str, message: AskCapacity, _call_id: bytes) -> Message:
        self.asked.append((peer, message))
        if message.flavor == "nobody":
            raise NotFound("Flavor nobody could not be found.")
        return Capacity(servers=12, hosts=3, first="h1", last="h3")

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self.join(10)


@pytest.mark.parametrize("tcp", [False, True])
def test_the_command_asks_the_hub_under_a_name_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tcp: bool, free_port: int
) -> None:
    file = config_file(tmp_path, f"tcp://127.0.0.1:{free_port}" if tcp else "")
    config = load(file)
    config.run_path.mkdir(parents=True)
    conductor = Conductor(config)
    conductor.start()
    try:
        assert conductor.up.wait(60)
        asked = ["capacity", "--flavor", "small", "--zone", "east", "--group-policy", "anti-affinity"]
        asked += ["--max-server-per-host", "2", "--image", "disk", "--config", file]
        assert main.main(asked) == 0
        assert capsys.readouterr().out == "12 more servers fit on 3 hosts.\nFirst: h1\nLast:  h3\n"
        [(peer, message)] = conductor.asked
        assert peer.startswith("cli.")
        assert message == AskCapacity(
            flavor="small", zone="east", image="disk", group_policy="anti-affinity", max_servers_per_host=2
        )
        assert main.main(["capacity", "--flavor", "small", "--json", "--config", file]) == 0
        assert json.loads(capsys.readouterr().out)["last_host"] == "h3"
        assert main.main(["capacity", "--flavor", "nobody", "--config", file]) == 1
        assert "Flavor nobody could not be found." in capsys.readouterr().err
    finally:
        conductor.end()


@pytest.fixture
def free_port() -> int:
    return free_ports(1)[0]


def test_without_a_cloud_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "CONNECT_TIMEOUT_S", 0.2)
    assert main.main(["capacity", "--flavor", "small", "--config", config_file(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "The cloud is not running" in said
    assert "nova-fast up" in said


def test_why_none_fits_is_told() -> None:
    counts = (FilterCount(filter="RamFilter", before=9, after=2), FilterCount(filter="CoreFilter", before=2, after=0))
    told = capacity.text(Capacity(servers=0, hosts=0, hint="with 1 vCPU less: 2 hosts would fit", filters=counts))
    assert told.splitlines() == [
        "0 more servers fit on 0 hosts.",
        "RamFilter removed 7 of 9",
        "CoreFilter removed 2 of 2",
        "With 1 vCPU less: 2 hosts would fit.",
    ]
    assert capacity.text(Capacity(servers=1, hosts=1, first="a", last="a")).startswith("1 more server fits on 1 host.")
