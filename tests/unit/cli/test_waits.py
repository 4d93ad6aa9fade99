"""A daemon that is up and cannot begin says what it waits for, and ``up`` and ``status`` say it again."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from nova_fast import daemon
from nova_fast.cli import lifecycle, processes, status
from nova_fast.cli.lifecycle import Cloud
from nova_fast.config import ComputeConfig, Config, NetworkConfig
from nova_fast.model.errors import Conflict
from nova_fast.waits import Waits, path_of, waited_for


def config(folder: Path) -> Config:
    made = Config(state_dir=str(folder), compute=ComputeConfig(driver="fake"), network=NetworkConfig(driver="fake"))
    made.run_path.mkdir(parents=True)
    return made


def test_who_begins_patiently_says_why_it_cannot_and_when_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "RETRY_S", 0)
    told: list[str] = []
    tries = iter([Conflict("the bridge b is another's", hint="choose another")] * 2 + [None])

    async def begin() -> None:
        if error := next(tries):
            raise error

    asyncio.run(daemon.begin_patiently(begin, asyncio.Event(), "no networks yet", told.append))
    assert told == ["no networks yet: the bridge b is another's (choose another)", ""]


def test_a_daemon_waits_until_all_its_hosts_have_begun(tmp_path: Path) -> None:
    waits = Waits(path_of(tmp_path, "network"), 7, ["h1", "h2"])

    def seen() -> str | None:
        return waited_for(tmp_path, {"network": 7}).get("network")

    assert seen() == "it has not begun yet"
    waits.tell("h1", "")
    assert seen() == "it has not begun yet", "h2 has not said anything"
    waits.tell("h2", "for rain")
    assert seen() == "for rain"
    waits.tell("h2", "")
    assert seen() is None
    assert waited_for(tmp_path, {"network": 8}) == {"network": "it has not begun yet"}, "another process wrote it"
    assert waited_for(tmp_path, {"scheduler": 8}) == {}


def test_what_is_waited_for_cannot_be_written_and_nobody_falls(tmp_path: Path) -> None:
    Waits(tmp_path / "away" / "network.waits", 7, ["h1"]).tell("h1", "for rain")


def test_status_and_up_say_what_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cloud = Cloud(config(tmp_path), None)
    path = cloud.setting.program_pid_path("network")
    path.parent.mkdir(parents=True)
    processes.write_pid_file(path, processes.own_identity())
    waits = daemon.waits_of(cloud.config, "network")
    (host,) = cloud.config.played_hosts
    waits.tell(host, "the bridge b belongs to another cloud of this machine")
    assert status.status(cloud) == 1
    shown = capsys.readouterr().out
    assert "network waits: the bridge b belongs to another cloud of this machine" in shown
    assert next(line.split()[1] for line in shown.splitlines() if line.startswith("network ")) == "waits"
    waits.tell(host, "")
    rows = {row.name: row for row in status.cloud_rows(cloud)}
    assert rows["network"].pid == os.getpid() and rows["network"].waits == ""
    path.unlink()  # it names this process
    lifecycle.down(cloud)
    assert not path_of(cloud.config.run_path, "network").exists()
