"""The parts of the tools that decide something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nova_fast.config import ComputeConfig, Config
from tools import up

TOP = Path(__file__).resolve().parents[3]


def openstack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> up.OpenStack:
    program = tmp_path / "openstack"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    return up.OpenStack(tmp_path / "clouds.yaml")


def test_an_object_that_is_not_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = openstack(tmp_path, monkeypatch, "echo 'No Server found for demo' >&2; exit 1")
    assert client.show("server", "show", "demo") is None


def test_any_other_complaint_is_an_error_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = openstack(tmp_path, monkeypatch, "echo 'The request you have made requires authentication' >&2; exit 1")
    with pytest.raises(up.UpError, match=r"`openstack server show demo` failed: .* requires authentication"):
        client.show("server", "show", "demo")
    with pytest.raises(up.UpError, match="requires authentication"):
        client.run("image", "list")


def test_the_client_sees_our_cloud_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_PASSWORD", "of another cloud")
    client = openstack(tmp_path, monkeypatch, "env | grep ^OS_ | sort")
    assert client.run("x").split() == [f"OS_CLIENT_CONFIG_FILE={tmp_path}/clouds.yaml", "OS_CLOUD=nova-fast"]


def test_qemu_may_pass_but_not_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    closed = tmp_path / "home"
    closed.mkdir()
    closed.chmod(0o700)
    up.open_way([closed])
    assert closed.stat().st_mode & 0o777 == 0o701
    assert f"{closed}: chmod o+x (was 0700)" in capsys.readouterr().out


@pytest.mark.parametrize("compute", [ComputeConfig(driver="fake"), ComputeConfig(instances_dir="/elsewhere")])
def test_folders_are_left_alone_where_no_guest_is_below(tmp_path: Path, compute: ComputeConfig) -> None:
    tmp_path.chmod(0o700)
    up.let_qemu_pass(Config(state_dir=str(tmp_path / "var"), compute=compute))
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_the_image_builder_names_what_is_missing(tmp_path: Path) -> None:
    environment = dict(os.environ, PATH=str(tmp_path))
    command = [
        sys.executable,
        str(TOP / "tools/build-guest-image"),
        "--output",
        str(tmp_path / "out"),
        "--size-mib",
        "1",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "--size-mib must be 48 or more" in done.stderr
    done = subprocess.run(command[:-2], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "are missing: apt-get install" in done.stderr or "only x86_64" in done.stderr


@pytest.mark.parametrize(
    "script",
    [
        "tools/setup",
        "tools/guest/init",
        "tools/guest/root/etc/init.d/rcS",
        "tools/guest/root/etc/init.d/sshd",
        "tools/guest/root/usr/share/udhcpc/default.script",
        ".ci/run",
    ],
)
def test_scripts_parse_and_may_be_run(script: str) -> None:
    path = TOP / script
    assert os.access(path, os.X_OK)
    shell = "bash" if "bash" in path.read_text().splitlines()[0] else "sh"
    subprocess.run([shell, "-n", str(path)], check=True, timeout=10)
