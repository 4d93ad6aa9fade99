"""Key files are private, whole, and refused when they are not."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest
import zmq

from nova_fast.config import ConfigError
from nova_fast.hub import keys


def test_server_keys_are_made_once_and_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    first = keys.make_server_keys(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / keys.SERVER_FILE).stat().st_mode) == 0o600
    again = keys.make_server_keys(folder)
    assert (again.public, again.secret) == (first.public, first.secret)
    assert zmq.curve_public(first.secret) == first.public
    assert first.secret.decode() not in repr(first)


def test_peer_keys_are_made_once_and_follow_a_new_hub(tmp_path: Path) -> None:
    hub, _ = zmq.curve_keypair()
    other, _ = zmq.curve_keypair()
    first = keys.make_peer_keys(tmp_path / "k", hub)
    moved = keys.make_peer_keys(tmp_path / "k", other)
    assert (moved.public, moved.secret, moved.server_public) == (first.public, first.secret, other)
    loaded = keys.load_peer_keys(tmp_path / "k")
    assert (loaded.secret, loaded.server_public) == (first.secret, other)
    assert first.secret.decode() not in repr(first)


def test_the_allow_list_is_kept(tmp_path: Path) -> None:
    server = keys.make_server_keys(tmp_path)
    a, _ = zmq.curve_keypair()
    b, _ = zmq.curve_keypair()
    server.allowed.allow(a, ["compute@host1", "network@host1"])
    server.allowed.allow(b, ["api.*"])
    keys.save_allowed(tmp_path, server.allowed)
    allowed = keys.load_server_keys(tmp_path).allowed
    assert allowed.items() == server.allowed.items()
    assert allowed.permits(a, "compute@host1") and not allowed.permits(a, "compute@host2")
    assert not allowed.permits(a, "compute@host11")
    assert allowed.permits(b, "api.3") and not allowed.permits(b, "scheduler")
    allowed.forbid(a)
    assert not allowed.knows(a) and not allowed.permits(a, "compute@host1")


def test_a_key_file_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    keys.make_server_keys(tmp_path)
    (tmp_path / keys.SERVER_FILE).chmod(0o640)
    with pytest.raises(ConfigError, match="0600"):
        keys.load_server_keys(tmp_path)


@pytest.mark.parametrize("content", [b"", b"short\nkeys\n", b"x" * 40, b"\xff" * 40 + b"\n" + b"y" * 40])
def test_a_broken_key_file_is_named(tmp_path: Path, content: bytes) -> None:
    keys.write_private(tmp_path / keys.SERVER_FILE, content)
    with pytest.raises(ConfigError, match=r"hub\.key"):
        keys.load_server_keys(tmp_path)


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"peer\.key"):
        keys.load_peer_keys(tmp_path)


def test_a_key_with_twenty_thousand_names_is_looked_up_as_fast_as_one_with_two() -> None:
    few, many = keys.AllowList(), keys.AllowList()
    key = zmq.curve_keypair()[0]
    names = [f"{kind}@host-{number:05d}" for kind in ("compute", "network") for number in range(10_000)]
    few.allow(key, ["api.*", names[0]])
    many.allow(key, ["api.*", *names])

    def took_s(allowed: keys.AllowList, asked: list[str]) -> float:
        begin = time.thread_time()
        assert all(allowed.permits(key, name) for name in asked)
        return time.thread_time() - begin

    took_s(many, names)
    slower = min(took_s(many, names) for _ in range(3)) / min(took_s(few, names[:1] * len(names)) for _ in range(3))
    assert slower < 20
    assert not many.permits(key, "compute@host-10000")
    assert many.permits(key, "api.7")
    assert not many.permits(key, "ap")
    assert many.names(key) == ("api.*", *names)
