"""The command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nova_fast import __version__
from nova_fast.cli import main as cli
from nova_fast.cli import programs


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out == f"nova-fast {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["api", "--worker", "-1"], ["api", "--worker", "x"], ["api", "--teardown"], ["up", "x"]],
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2


def test_no_command_repairs() -> None:
    """Nothing needs it: what does not agree is a defect, and is not to be swept away."""
    commands = next(action for action in cli.parser()._actions if action.dest == "command").choices
    assert commands is not None
    assert set(commands) == {
        "up", "down", "status", "check", "backup", "restore", "explain", "capacity", "sdk-key", "openapi", "version",
        "supervise", "conductor", "scheduler", "network", "compute", "api",
    }  # fmt: skip


def test_a_wrong_option_in_the_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[api]\nidentity_prot = 1\n")
    assert cli.main(["status", "--config", str(path)]) == 2
    assert f"{path}: Object contains unknown field `identity_prot`" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--config", str(tmp_path / "none.toml")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_where_the_configuration_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NOVA_FAST_CONFIG", raising=False)
    assert cli.find_config_file(None) is None
    (tmp_path / cli.DEFAULT_CONFIG_FILE).touch()
    assert cli.find_config_file(None) == cli.DEFAULT_CONFIG_FILE
    monkeypatch.setenv("NOVA_FAST_CONFIG", "/from/environment")
    assert cli.find_config_file(None) == "/from/environment"
    assert cli.find_config_file("/given") == "/given"


def test_a_command_loads_nothing_it_does_not_need() -> None:
    script = "import sys; from nova_fast.cli import main; main.main(['version']); print(*sys.modules, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=programs.own_environment()
    )
    loaded = set(done.stdout.split())
    assert "nova_fast.cli.main" in loaded
    assert loaded.isdisjoint({"asyncio", "zmq", "falcon", "lmdb", "uvloop", "subprocess", "nova_fast.cli.lifecycle"})


def test_the_supervisor_loads_no_framework() -> None:
    script = "import sys, nova_fast.cli.lifecycle; print(*sys.modules, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=programs.own_environment()
    )
    assert set(done.stdout.split()).isdisjoint(
        {"asyncio", "zmq", "falcon", "lmdb", "uvloop", "cryptography", "logging"}
    )
