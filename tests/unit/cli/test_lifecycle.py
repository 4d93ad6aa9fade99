"""What ``up``, ``down`` and ``status`` decide, without a cloud."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bench.ports import free_ports
from nova_fast.cli import libvirt_host, lifecycle, processes, status, supervisor
from nova_fast.cli import main as cli
from nova_fast.cli.lifecycle import Cloud
from nova_fast.config import ApiConfig, ComputeConfig, Config, NetworkConfig
from nova_fast.model.errors import Conflict, Unavailable
from nova_fast.state import schema as tables
from nova_fast.state.store import Store
from tests.unit.scheduler.fleet import make_host


@contextlib.contextmanager
def listening(answer: bytes = b"") -> Iterator[int]:
    """A TCP server that gives every client one answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    if answer and client.recv(1000):
                        client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def config_with_ports(folder: Path, ports: list[int]) -> Config:
    identity, compute, image, network, placement = ports
    return Config(
        state_dir=str(folder / "var"),
        api=ApiConfig(
            identity_port=identity,
            compute_port=compute,
            image_port=image,
            network_port=network,
            placement_port=placement,
            workers=2,
        ),
        compute=ComputeConfig(driver="fake"),
        network=NetworkConfig(driver="fake"),
    )


def test_a_port_in_use_is_an_error_that_names_the_option(tmp_path: Path) -> None:
    with listening() as port:
        config = config_with_ports(tmp_path, [*free_ports(2), port, *free_ports(2)])
        with pytest.raises(Conflict, match=f"port {port}: Address already in use") as error:
            lifecycle.check_ports(config)
    assert "api.image_port" in (error.value.hint or "")


def test_a_port_of_another_cloud_is_in_use_too(tmp_path: Path) -> None:
    """SO_REUSEPORT would let both listen."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        config = config_with_ports(tmp_path, [other.getsockname()[1], *free_ports(4)])
        with pytest.raises(Conflict):
            lifecycle.check_ports(config)


def test_free_ports_pass(tmp_path: Path) -> None:
    lifecycle.check_ports(config_with_ports(tmp_path, free_ports(5)))


@pytest.mark.parametrize(
    ("answer", "expected"), [(b"HTTP/1.1 200 OK\r\n\r\n", True), (b"HTTP/1.1 503 No\r\n\r\n", False)]
)
def test_the_api_answers_when_identity_says_200(tmp_path: Path, answer: bytes, expected: bool) -> None:
    with listening(answer) as identity, listening() as other:
        assert lifecycle.api_answers(config_with_ports(tmp_path, [identity, other, other, other, other])) is expected


def test_the_api_does_not_answer_while_a_face_is_missing(tmp_path: Path) -> None:
    with listening(b"HTTP/1.1 200 OK\r\n\r\n") as identity, listening() as other:
        ports = [identity, other, other, other, *free_ports(1)]
        assert lifecycle.api_answers(config_with_ports(tmp_path, ports)) is False


def test_a_cloud_has_a_host_when_one_of_this_machine_has_reported(tmp_path: Path) -> None:
    config = msgspec.structs.replace(config_with_ports(tmp_path, [1, 2, 3, 4, 5]), host="here")
    assert not lifecycle.has_host(config), "there is no store yet"
    for number, (name, expected) in enumerate((("elsewhere", False), ("here", True))):
        store = Store.open(config.store_path)
        with store.transaction(1) as tx:
            tx.put(tables.HOSTS, make_host(name, number=number))
        store.close()
        assert lifecycle.has_host(config) is expected


def test_daemons_start_conductor_first_and_api_last(tmp_path: Path) -> None:
    setting = Cloud(config_with_ports(tmp_path, [1, 2, 3, 4, 5]), "x.toml").setting
    groups = {program.name: program.group for program in setting.programs}
    assert groups == {"conductor": 0, "scheduler": 1, "network": 1, "compute": 1, "api-0": 2, "api-1": 2}
    assert setting.programs[-1].argv[-5:] == ("api", "--worker", "1", "--config", str(Path("x.toml").resolve()))


def test_status_of_nothing_shows_all_down_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status.status(Cloud(config_with_ports(tmp_path, [1, 2, 3, 4, 5]), None)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:-1]] == [
        [name, "down"] for name in ("supervisor", "conductor", "scheduler", "network", "compute", "api-0", "api-1")
    ]


def test_status_finds_daemons_whose_supervisor_was_killed(tmp_path: Path) -> None:
    cloud = Cloud(config_with_ports(tmp_path, [1, 2, 3, 4, 5]), None)
    path = cloud.setting.program_pid_path("conductor")
    path.parent.mkdir(parents=True)
    processes.write_pid_file(path, processes.own_identity())
    rows = {row.name: row for row in status.cloud_rows(cloud)}
    assert (rows["conductor"].pid, rows["supervisor"].pid, rows["scheduler"].pid) == (os.getpid(), None, None)
    assert rows["conductor"].memory_kib


def test_down_of_nothing_is_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lifecycle.down(Cloud(config_with_ports(tmp_path, [1, 2, 3, 4, 5]), None), everything=True) == 0
    assert "no daemon was running" in capsys.readouterr().out


def test_a_daemon_that_does_not_stay_up_ends_up_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ports = free_ports(5)
    (tmp_path / "c.toml").write_text(
        f'state_dir = "{tmp_path}/var"\nlog_level = "NONSENSE"\n'
        '[compute]\ndriver = "fake"\n[network]\ndriver = "fake"\n'
        f"[api]\nworkers = 1\nidentity_port = {ports[0]}\ncompute_port = {ports[1]}\nimage_port = {ports[2]}\n"
        f"network_port = {ports[3]}\nplacement_port = {ports[4]}\n"
    )
    assert cli.main(["up", "--config", str(tmp_path / "c.toml")]) == 1
    error = capsys.readouterr().err
    assert "does not stay up: exited with code 1" in error
    assert "the end of" in error
    cloud = Cloud(Config(state_dir=f"{tmp_path}/var"), None)
    assert processes.running(cloud.setting.pid_path) is None
    assert supervisor.leftovers(cloud.setting) == {}


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("qemu:///system", ("/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock")),
        ("qemu+unix:///system?socket=/a/b", ("/a/b",)),
        ("qemu+ssh://other/system", ()),
        ("test:///default", ()),
    ],
)
def test_where_a_local_libvirt_would_answer(uri: str, expected: tuple[str, ...]) -> None:
    assert libvirt_host.local_sockets(uri) == expected


def test_a_libvirt_that_answers_is_left_alone(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "sock"))
        server.listen()
        uri = f"qemu+unix:///system?socket={tmp_path}/sock"
        config = Config(state_dir=str(tmp_path), compute=ComputeConfig(libvirt_uri=uri))
        assert libvirt_host.ensure(config, None) == "libvirt runs already: left alone"


def test_a_libvirt_at_a_socket_of_its_own_is_never_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libvirt_host, "_SYSTEMD", tmp_path / "none")
    uri = f"qemu+unix:///system?socket={tmp_path}/none"
    config = Config(state_dir=str(tmp_path), compute=ComputeConfig(libvirt_uri=uri))
    with pytest.raises(Unavailable, match="no libvirt answers"):
        libvirt_host.ensure(config, None)
