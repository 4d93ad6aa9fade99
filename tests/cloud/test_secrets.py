"""What must stay secret stays out of logs and answers, and the files that hold it are their owner's only."""

from __future__ import annotations

import base64
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Cloud, new_cloud, wait_for
from .rest import Answer, Rest

pytestmark = pytest.mark.slow

PASSWORD = "pass-Tulip-4417-word"
NEW_PASSWORD = "pass-Anemone-9023-word"
WRONG_PASSWORD = "pass-Crocus-1188-word"
ADMIN_PASS = "guest-Foxglove-5512"
USER_DATA = "#!/bin/sh\necho user-Larkspur-6604\n"
CREDENTIAL_SECRET = "credential-Yarrow-7731"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with new_cloud(driver="fake") as cloud:
        cloud.config.write_text('log_level = "DEBUG"\n' + cloud.config.read_text())
        cloud.up()
        yield cloud


class Gossip:
    """Sends requests full of secrets; keeps every refusal."""

    def __init__(self, rest: Rest) -> None:
        self.rest = rest
        self.refusals: list[Answer] = []

    def ask(self, method: str, face: str, path: str, body: Any) -> Answer:
        answer = self.rest.send(method, face, path, body)
        if answer.status >= 400:
            self.refusals.append(answer)
        return answer

    def refused(self, method: str, face: str, path: str, body: Any) -> None:
        assert 400 <= self.ask(method, face, path, body).status < 500, (method, path)


def log_in(user: str, password: Any) -> dict[str, Any]:
    who = {"name": user, "domain": {"id": "default"}, "password": password}
    return {"auth": {"identity": {"methods": ["password"], "password": {"user": who}}}}


def use_secrets(cloud: Cloud) -> tuple[Gossip, set[str]]:
    """Everything that takes or gives a secret, right and wrong; the secrets that have to be kept."""
    rest = Rest(cloud)
    gossip = Gossip(rest)
    user_data = base64.b64encode(USER_DATA.encode()).decode()
    user = rest.make("identity", "/v3/users", {"user": {"name": "ann", "password": PASSWORD}})
    tokens = {rest.token}
    for password in (WRONG_PASSWORD, [WRONG_PASSWORD], {WRONG_PASSWORD: 1}):
        gossip.refused("POST", "identity", "/v3/auth/tokens", log_in("ann", password))
    gossip.refused("POST", "identity", "/v3/users", {"user": {"name": 5, "password": PASSWORD}})
    gossip.refused("POST", "identity", "/v3/users", {"user": {"name": "bob", "password": [PASSWORD]}})
    gossip.refused("POST", "identity", "/v3/users", {"user": {"name": "ann", "password": PASSWORD}})
    change = f"/v3/users/{user['id']}/password"
    for old in (WRONG_PASSWORD, PASSWORD):
        gossip.ask("POST", "identity", change, {"user": {"original_password": old, "password": NEW_PASSWORD}})
    answer = rest.send("POST", "identity", "/v3/auth/tokens", log_in("ann", NEW_PASSWORD))
    assert answer.status == 201, answer.body
    tokens.add(answer.headers["x-subject-token"])

    path = f"/v3/users/{rest.user_id}/application_credentials"
    wish = {"name": "robot", "secret": CREDENTIAL_SECRET}
    credential = rest.make("identity", path, {"application_credential": wish})
    gossip.refused("POST", "identity", path, {"application_credential": wish})
    gossip.refused("POST", "identity", path, {"application_credential": {"name": [], "secret": CREDENTIAL_SECRET}})
    identity = {"methods": ["application_credential"]}
    for secret in (CREDENTIAL_SECRET, WRONG_PASSWORD):
        identity["application_credential"] = {"id": credential["id"], "secret": secret}  # type: ignore[assignment]
        answer = gossip.ask("POST", "identity", "/v3/auth/tokens", {"auth": {"identity": identity}})
        tokens.add(answer.headers.get("x-subject-token", rest.token))

    server = {
        "name": "vm", "flavorRef": "1", "imageRef": rest.image(), "networks": [{"uuid": rest.network()}],
        "adminPass": ADMIN_PASS, "user_data": user_data, "config_drive": True,
    }  # fmt: skip
    for wrong in ({"name": ""}, {"flavorRef": "none"}, {"adminPass": [ADMIN_PASS]}, {"user_data": user_data + "!"}):
        gossip.refused("POST", "compute", "/v2.1/servers", {"server": {**server, **wrong}})
    rest.make("compute", "/v2.1/servers", {"server": server})
    wait_for("the server runs", lambda: [s["status"] for s in rest.servers()] == ["ACTIVE"], 60)

    keys = {(cloud.state / "admin-password").read_text().strip()}
    return gossip, tokens | keys | {
        PASSWORD, NEW_PASSWORD, WRONG_PASSWORD, ADMIN_PASS, CREDENTIAL_SECRET, user_data[:24], "user-Larkspur-6604",
    }  # fmt: skip


def modes(folder: Path) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): stat.S_IMODE(path.lstat().st_mode) for path in sorted(folder.rglob("*"))
    }


def test_no_secret_reaches_a_log_or_a_refusal_and_files_are_private(cloud: Cloud) -> None:
    gossip, secrets = use_secrets(cloud)
    assert len(gossip.refusals) > 10
    for answer in gossip.refusals:
        said = answer.body.decode()
        assert [secret for secret in secrets if secret in said] == [], said

    cloud.down(everything=False)  # so that the logs are whole
    logs = list((cloud.state / "log").iterdir())
    assert {"api-0.log", "conductor.log", "compute.log", "supervisor.log"} <= {log.name for log in logs}
    for log in logs:
        text = log.read_text()
        assert [secret for secret in secrets if secret in text] == [], log.name

    found = modes(cloud.state)
    for name in ("admin-password", "clouds.yaml", "openrc", "store/data.mdb", "store/lock.mdb"):
        assert found[name] == 0o600, f"{name} has mode {found[name]:o}"
    assert found["store"] == 0o700
    writable = {name: f"{mode:o}" for name, mode in found.items() if mode & 0o022 and not name.startswith("run/")}
    assert writable == {}
    open_logs = {name for name, mode in found.items() if name.startswith("log/") and mode & 0o007}
    assert open_logs <= {"log/supervisor.log"}  # which tells of processes only


def test_the_store_holds_hashes_where_a_secret_need_only_be_compared(cloud: Cloud) -> None:
    use_secrets(cloud)
    cloud.down(everything=False)
    data = (cloud.state / "store" / "data.mdb").read_bytes()
    for secret in (PASSWORD, NEW_PASSWORD, WRONG_PASSWORD, CREDENTIAL_SECRET):
        assert secret.encode() not in data, secret
