"""The first user's password and files."""

from __future__ import annotations

import subprocess
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec
import pytest
import yaml

from nova_fast.cli.credentials import Credentials, ensure_credentials, openrc
from nova_fast.config import ApiConfig, Config


def test_files_are_private_and_agree(tmp_path: Path) -> None:
    made = ensure_credentials(Config(state_dir=str(tmp_path / "var")))
    for path in (made.password_file, made.clouds_file, made.openrc_file):
        assert path.stat().st_mode & 0o777 == 0o600
    assert made.password_file.read_text().strip() == made.password
    assert len(made.password) >= 32
    cloud = yaml.safe_load(made.clouds_file.read_text())["clouds"]["nova-fast"]
    assert cloud["auth"] == {
        "auth_url": "http://127.0.0.1:5000/v3",
        "username": "admin",
        "password": made.password,
        "project_name": "admin",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }
    assert (cloud["region_name"], cloud["identity_api_version"]) == ("RegionOne", 3)


def test_the_password_stays_and_the_address_follows_the_configuration(tmp_path: Path) -> None:
    first = ensure_credentials(Config(state_dir=str(tmp_path)))
    second = ensure_credentials(Config(state_dir=str(tmp_path), api=ApiConfig(listen="::1", identity_port=5001)))
    assert second.password == first.password
    assert "http://[::1]:5001/v3" in second.clouds_file.read_text()


def test_two_that_start_at_once_agree_on_one_password(tmp_path: Path) -> None:
    config = Config(state_dir=str(tmp_path))
    with ProcessPoolExecutor(4) as pool:
        passwords = {made.password for made in pool.map(ensure_credentials, [config] * 8)}
    assert len(passwords) == 1
    assert not list(tmp_path.glob(".admin*"))


def test_an_empty_password_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "admin-password").touch()
    with pytest.raises(OSError, match="is empty"):
        ensure_credentials(Config(state_dir=str(tmp_path)))


def test_openrc_survives_a_shell(tmp_path: Path) -> None:
    made = ensure_credentials(Config(state_dir=str(tmp_path)))
    odd = msgspec.structs.replace(made, password="a'b\"c $(touch x) d")
    (tmp_path / "odd").write_text(openrc(odd))
    command = ["sh", "-c", '. "$1"; printf %s "$OS_PASSWORD"', "sh", str(tmp_path / "odd")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, env={"OS_CLOUD": "other"})
    assert done.stdout == odd.password


def test_the_password_is_not_in_the_representation(tmp_path: Path) -> None:
    made: Credentials = ensure_credentials(Config(state_dir=str(tmp_path)))
    assert made.password not in repr(made)
    assert made.password not in str(made)
