"""Keys over tcp: which come in, for whom they speak, and that none passes for another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from bench.ports import free_ports
from nova_fast.api.zmq.keys import allow, door_keys, forbid, new_key
from nova_fast.cli.credentials import ensure_credentials
from nova_fast.cli.sdk import write_sdk_file
from nova_fast.client import Client, Settings, line, read_file
from nova_fast.config import Config, ConfigError, SdkConfig
from nova_fast.hub.keys import PeerKeys, ServerKeys, key_name, load_peer_keys, make_peer_keys
from nova_fast.model.commands.identity import UpdateUser
from nova_fast.model.errors import Forbidden, NotFound, Unauthorized, Unavailable
from tests.api.sdk_world import OpenDoor, new
from tests.api.server_world import World

if TYPE_CHECKING:
    from tests.api.conftest import Cloud


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config(cloud: Cloud) -> Config:
    [port] = free_ports(1)
    return msgspec.structs.replace(cloud.config, sdk=SdkConfig(address=f"tcp://127.0.0.1:{port}"))


@pytest.fixture
def door(cloud: Cloud, config: Config) -> Iterator[OpenDoor]:
    opened = OpenDoor(cloud, config=config)
    yield opened
    opened.close()


def let_in(config: Config, user_id: str = "", project_id: str = "") -> PeerKeys:
    """A new key that comes in."""
    server = door_keys(config)
    assert server is not None
    public, secret = new_key()
    allow(config, public, user_id, project_id)
    return PeerKeys(public, secret, server.public)


def come_in(door: OpenDoor, keys: PeerKeys, connect_timeout_s: float = 60, **others: Any) -> Client:
    settings = Settings(addresses=(door.address,), keys=keys, connect_timeout_s=connect_timeout_s, **others)
    return Client.connect(settings)


def shut_out(ask: Callable[[], object]) -> None:
    """Ask until it is Unavailable: a door looks at its list now and then."""
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s:
        try:
            ask()
        except Unavailable:
            return
        time.sleep(0.1)
    pytest.fail("it still comes in")


def test_a_key_lets_in_and_a_token_says_who(world: World, config: Config, door: OpenDoor) -> None:
    keys = let_in(config)
    with come_in(door, keys, token=world.member.token) as client, come_in(door, keys) as nobody:
        server_id = client.servers.create(new(world)).id
        assert client.servers.get(server_id).project_id == world.p1.id
        with pytest.raises(Unauthorized):
            nobody.servers.get(server_id)


def test_a_key_speaks_for_a_user_as_he_is_now(world: World, config: Config, door: OpenDoor) -> None:
    who = world.cloud.user("robot", world.p1.id, "member")
    other = world.cloud.project("p2").member
    with come_in(door, let_in(config, who.user_id, world.p1.id)) as robot:
        server_id = robot.servers.create(new(world)).id
        assert robot.servers.get(server_id).user_id == who.user_id
        with pytest.raises(Forbidden):
            robot.hosts.get("h1")
        with come_in(door, let_in(config, other.user_id, other.project_id)) as stranger, pytest.raises(NotFound):
            stranger.servers.get(server_id)
        world.cloud.run(UpdateUser(caller=world.cloud.root, user_id=who.user_id, enabled=False))
        with pytest.raises(Unauthorized):
            robot.servers.get(server_id)


def test_a_key_that_is_not_on_the_list_does_not_come_in(config: Config, door: OpenDoor) -> None:
    server = door_keys(config)
    assert server is not None
    public, secret = new_key()
    with pytest.raises(Unavailable, match="does not answer"):
        come_in(door, PeerKeys(public, secret, server.public), 2)


def test_a_key_that_is_taken_off_the_list_is_cut(world: World, config: Config, door: OpenDoor) -> None:
    keys = let_in(config)
    with come_in(door, keys, token=world.member.token, timeout_s=6) as client:
        client.flavors.get("1")
        assert forbid(config, keys.public)
        shut_out(lambda: client.flavors.get("1"))
    assert not forbid(config, keys.public)


def test_no_key_can_take_the_name_of_another(config: Config, door: OpenDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = let_in(config), let_in(config)
    monkeypatch.setattr(line, "peer_name", lambda public: f"client.{key_name(theirs.public)}-1")
    with pytest.raises(Forbidden, match="may not use the name"):
        come_in(door, mine)
    come_in(door, theirs).close()


def test_a_key_of_the_sdk_is_none_of_the_hubs_and_the_other_way_round(config: Config, door: OpenDoor) -> None:
    hub = ServerKeys(*new_key())
    own = make_peer_keys(config.state_path / "keys", hub.public)
    server = door_keys(config)
    assert server is not None and server.public != hub.public
    assert not server.allowed.knows(own.public)
    with pytest.raises(Unavailable):
        come_in(door, PeerKeys(own.public, own.secret, server.public), 2)
    assert load_peer_keys(config.state_path / "keys").public == own.public


def test_the_file_of_up_lets_the_admin_in(world: World, config: Config, door: OpenDoor) -> None:
    path = write_sdk_file(config, ensure_credentials(config))
    assert path.stat().st_mode & 0o777 == 0o600
    settings = read_file(path)
    assert settings.addresses == (door.address,) and settings.keys is not None
    assert settings.keys.secret not in repr(settings).encode()
    write_sdk_file(config, ensure_credentials(config))
    assert read_file(path).keys is not None and read_file(path).keys.public == settings.keys.public  # type: ignore[union-attr]
    with Client.connect(msgspec.structs.replace(settings, credentials=None, token=world.admin.token)) as client:
        assert [host.name for host in client.hosts.list()] == ["h1"]


def nova_fast(config: Config, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, with this configuration."""
    path = config.state_path / "nova-fast.toml"
    lines = [f"state_dir = {json.dumps(config.state_dir)}", "[sdk]", f"address = {json.dumps(config.sdk.address)}"]
    path.write_text("\n".join([*lines, "[api]", "workers = 1", ""]))
    return subprocess.run(
        [sys.executable, "-m", "nova_fast.cli.main", *arguments, "--config", str(path)],
        capture_output=True, text=True, timeout=180, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_a_key_is_made_and_taken_back_by_the_command_line(
    world: World, config: Config, door: OpenDoor, tmp_path: Path
) -> None:
    file = tmp_path / "robot.json"
    allowing = ("sdk-key", "allow", str(file), "--user", "p1-member", "--project", "p1")
    done = nova_fast(config, *allowing)
    assert done.returncode == 0, done.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    with Client.connect(msgspec.structs.replace(read_file(file), connect_timeout_s=60)) as robot:
        made = robot.servers.create(new(world))
        assert robot.servers.get(made.id).user_id == world.member.user_id
    again = nova_fast(config, *allowing)
    assert again.returncode == 1 and "is there already" in again.stderr
    nobody = nova_fast(config, "sdk-key", "allow", str(tmp_path / "x.json"), "--user", "nobody", "--project", "p1")
    assert nobody.returncode == 1 and "there is no user 'nobody'" in nobody.stderr
    assert nova_fast(config, "sdk-key", "forbid", str(file)).returncode == 0
    assert nova_fast(config, "sdk-key", "forbid", str(file)).returncode == 1
    shut_out(lambda: Client.connect(msgspec.structs.replace(read_file(file), connect_timeout_s=2)).close())
    on_sockets = msgspec.structs.replace(config, sdk=SdkConfig())
    refused = nova_fast(on_sockets, "sdk-key", "allow", str(tmp_path / "y.json"))
    assert refused.returncode == 2 and "no tcp address" in refused.stderr


def test_addresses_that_cannot_be(config: Config) -> None:
    with pytest.raises(ConfigError, match="needs CURVE keys"):
        Client.connect(Settings(addresses=("tcp://127.0.0.1:1",)))
    with pytest.raises(ConfigError, match="at least one"):
        Client.connect(Settings(addresses=()))
    for address in ("tcp://127.0.0.1:65535", "tcp://127.0.0.1", "tcp://127.0.0.1:x", "http://here", "127.0.0.1:1"):
        with pytest.raises(ConfigError, match=r"sdk\.address"):
            msgspec.structs.replace(config, sdk=SdkConfig(address=address)).sdk_address(1)
    assert msgspec.structs.replace(config, sdk=SdkConfig(address="ipc:///a/b")).sdk_address(1) == "ipc:///a/b-1"
