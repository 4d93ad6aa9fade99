"""A client that repeats its POST under an Idempotency-Key gets one server for each key, whatever is killed meanwhile.

The conductor and the API workers are killed at random moments, among them the one between the commit and the answer;
clients hang up in the middle of a request, and ask two workers at once.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from nova_fast.state import schema as tables
from nova_fast.state.store import Store
from tests.lengths import repeats

from .conftest import Cloud, new_cloud, wait_for
from .rest import TIMEOUT_S, Answer, Rest

pytestmark = pytest.mark.slow

KILLS = repeats(2, 40)
KILLS_MORE = 10  # when those met nobody
SENT_S_MAX = 5.0
CIDR = "10.0.0.0/16"  # servers are made as fast as the machine can, while nobody is killed
USERS = 10
PAUSE_S = 0.02
PATIENCE_S = 60.0
APIS = ("api-0", "api-1")
DOOMED = ("conductor", *APIS)


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with new_cloud(driver="fake", fake_hosts=3, fake_delay_s=0.02) as cloud:
        cloud.config.write_text(cloud.config.read_text().replace("[api]", "[api]\nworkers = 2"))
        cloud.up()
        yield cloud


class Clients:
    """Users who want one server for each key, and do not give up."""

    def __init__(self, cloud: Cloud) -> None:
        self.rest = Rest(cloud)
        limits = dict.fromkeys(("instances", "cores", "ram"), -1)
        path = f"/v2.1/os-quota-sets/{self.rest.project_id}"
        assert self.rest.send("PUT", "compute", path, {"quota_set": limits}).status == 200
        port = {"port": -1}
        assert self.rest.send("PUT", "network", f"/v2.0/quotas/{self.rest.project_id}", {"quota": port}).status == 200
        self.template = {
            "flavorRef": "1",
            "imageRef": self.rest.image(),
            "networks": [{"uuid": self.rest.network(CIDR)}],
        }
        self.broken = 0

    def post(self, key: str, *, answer: bool = True) -> Answer | None:
        """One attempt; without ``answer`` the client hangs up as soon as it has sent everything."""
        body = json.dumps({"server": {**self.template, "name": key}}).encode()
        port = self.rest.cloud.ports["compute"]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        headers = {
            "X-Auth-Token": self.rest.token, "Content-Type": "application/json", "Idempotency-Key": f'"{key}"',
        }  # fmt: skip
        try:
            connection.request("POST", "/v2.1/servers", body=body, headers=headers)
            if not answer:
                return None
            got = connection.getresponse()
            return Answer(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read())
        finally:
            connection.close()

    def insist(self, key: str, done: threading.Event | None = None) -> dict[str, Any]:
        """Repeat until there is an answer; the server it speaks of.

        The time counts from when the killing is ``done``: who is killed each time he has come up answers nobody.
        """
        begin = time.monotonic()
        while time.monotonic() < begin + PATIENCE_S:
            if done is not None and not done.is_set():
                begin = time.monotonic()
            try:
                answer = self.post(key)
            except (OSError, http.client.HTTPException):
                self.broken += 1
                time.sleep(0.1)
                continue
            assert answer is not None
            if answer.status != 503:
                assert answer.status == 202, answer.body
                made: dict[str, Any] = answer.json["server"]
                return made
            time.sleep(0.1)
        raise AssertionError(f"no answer in {PATIENCE_S} s")

    def work(self, done: threading.Event) -> dict[str, dict[str, Any]]:
        """Get servers, hanging up first now and then, and ask again for each; what was promised for each key."""
        promised: dict[str, dict[str, Any]] = {}
        while not done.wait(PAUSE_S * random.random()):
            key = str(uuid.uuid4())
            if random.random() < 0.2:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    self.post(key, answer=False)
            promised[key] = self.insist(key, done)
            assert self.insist(key, done) == promised[key], "a repetition was answered otherwise"
        return promised


def servers_by_key(clients: Clients) -> dict[str, list[str]]:
    """The ids of all servers by their name, which is the key."""
    found: dict[str, list[str]] = {}
    for server in clients.rest.servers():
        found.setdefault(server["name"], []).append(server["id"])
    return found


def kill_them(cloud: Cloud, clients: Clients) -> None:
    """Kill the conductor, an API worker, or both, again and again at random moments, until somebody has felt it."""
    for number in range(KILLS + KILLS_MORE):
        if number >= KILLS and clients.broken:
            break
        time.sleep(0.3 + 0.3 * random.random())
        running = cloud.daemons()
        chosen = {0: ["conductor", "api-1"], 1: ["api-0"]}.get(number) or random.sample(DOOMED, 2)
        for name in chosen:
            os.kill(running[name], signal.SIGKILL)
        for name in chosen:
            wait_for(
                f"{name} is back", lambda n=name, old=running: cloud.daemons().get(n) not in (None, old[n]), 60, 0.05
            )
    time.sleep(0.5)


def kept(cloud: Cloud) -> int:
    """How many answers are kept now."""
    store = Store.open(cloud.state / "store", readonly=True)
    try:
        with store.snapshot() as snapshot:
            return snapshot.size(tables.KEYED_ANSWERS)
    finally:
        store.close()


def committed(cloud: Cloud, before: int) -> bool:
    """Wait for one more answer to be kept; in vain if no worker has sent the command."""
    end = time.monotonic() + SENT_S_MAX
    while kept(cloud) == before and time.monotonic() < end:
        time.sleep(0.02)
    return kept(cloud) > before


def commit_without_an_answer(cloud: Cloud, clients: Clients, key: str, doomed: tuple[str, ...], pause_s: float) -> bool:
    """Send a request, let the conductor commit it while no worker can pass the answer on, and kill who is doomed.

    False when ``pause_s`` was too short for the worker to send the command on: then all go on, and it is answered.
    """
    pids, before = cloud.daemons(), kept(cloud)
    stopped = set(DOOMED)
    os.kill(pids["conductor"], signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(clients.post, key)
            time.sleep(pause_s)  # until the worker has sent the command on
            for name in APIS:
                os.kill(pids[name], signal.SIGSTOP)
            os.kill(pids["conductor"], signal.SIGCONT)
            too_soon = not committed(cloud, before)
            assert not first.done(), "the answer was sent before it could be lost"
            if not too_soon:
                for name in doomed:
                    os.kill(pids[name], signal.SIGKILL)
                    stopped.discard(name)
            for name in stopped:
                os.kill(pids[name], signal.SIGCONT)
            stopped.clear()
            error = first.exception(timeout=TIMEOUT_S)
            assert error is None or isinstance(error, OSError | http.client.HTTPException), error
            if too_soon:
                return False
            assert (error is None) == (doomed == ("conductor",)), "who lives answers, who was killed does not"
    finally:
        for name in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids[name], signal.SIGCONT)
    for name in doomed:
        wait_for(f"{name} is back", lambda n=name: cloud.daemons().get(n) not in (None, pids[n]), 60, 0.05)
    return True


@pytest.mark.parametrize("doomed", [APIS, ("conductor",), DOOMED], ids=["workers", "conductor", "both"])
def test_killed_between_the_commit_and_the_answer(cloud: Cloud, doomed: tuple[str, ...]) -> None:
    clients = Clients(cloud)
    for pause_s in (0.3, 2.0, 10.0):
        key = str(uuid.uuid4())
        if commit_without_an_answer(cloud, clients, key, doomed, pause_s):
            break
    else:
        pytest.fail("nothing was committed")
    made = clients.insist(key)
    assert servers_by_key(clients)[key] == [made["id"]]
    again = clients.post(key)
    assert again is not None and again.headers["idempotency-replayed"] == "true"
    assert again.json["server"] == made


def test_two_workers_asked_at_once_make_one_server(cloud: Cloud) -> None:
    clients = Clients(cloud)
    before = len(clients.rest.servers())
    for _ in range(5):
        key = str(uuid.uuid4())
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda _, key=key: clients.insist(key), range(8)))
        assert all(one == made[0] for one in made)
    assert len(clients.rest.servers()) == before + 5


def test_a_request_cut_in_the_middle_is_not_done_and_its_repetition_is(cloud: Cloud) -> None:
    clients = Clients(cloud)
    key = str(uuid.uuid4())
    body = json.dumps({"server": {**clients.template, "name": key}}).encode()
    head = (
        f"POST /v2.1/servers HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nIdempotency-Key: {key}\r\n"
        f"X-Auth-Token: {clients.rest.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", cloud.ports["compute"]), timeout=60) as wire:
        wire.sendall(head + body[:-5])
    time.sleep(0.3)
    assert key not in servers_by_key(clients)
    made = clients.insist(key)
    assert servers_by_key(clients)[key] == [made["id"]]


def test_no_password_lies_in_clear_beside_a_key(cloud: Cloud) -> None:
    clients = Clients(cloud)
    key = str(uuid.uuid4())
    made = clients.insist(key)
    store = Store.open(cloud.state / "store", readonly=True)
    try:
        with store.snapshot() as snapshot:
            rows = list(snapshot.scan(tables.KEYED_ANSWERS))
    finally:
        store.close()
    assert rows
    for row in rows:
        assert made["adminPass"].encode() not in row.sealed + row.result
        assert key.encode() not in row.sealed + row.result + row.owner.encode()


@pytest.mark.torture
def test_one_server_for_each_key_whatever_is_killed(cloud: Cloud) -> None:
    clients, done = Clients(cloud), threading.Event()
    before = servers_by_key(clients)
    with ThreadPoolExecutor(USERS) as pool:
        users = [pool.submit(clients.work, done) for _ in range(USERS)]
        try:
            kill_them(cloud, clients)
        finally:
            done.set()
        promised = {key: made for user in users for key, made in user.result().items()}
    assert clients.broken > 0, "nothing was disturbed"
    assert servers_by_key(clients) == before | {key: [made["id"]] for key, made in promised.items()}
    assert len({made["adminPass"] for made in promised.values()}) == len(promised)
