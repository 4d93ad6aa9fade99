"""Every daemon is killed, alone, with others and all at once, while users make, use and delete servers by the hundred.

What was promised holds without anybody's help: an accepted creation is there and built, whole and once; an accepted
deletion is gone; an accepted action ended as asked or its record says why not; afterwards every count is what a recount
finds and every guest belongs to a server.
"""

from __future__ import annotations

import http.client
import random
import re
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.lengths import repeats

from .census import recount
from .conftest import Cloud, new_cloud, wait_for
from .killer import SUPERVISOR, Killer, seeded
from .load import ACTIONS, User, may_show
from .rest import Rest

pytestmark = [pytest.mark.slow, pytest.mark.torture]

SERVERS = repeats(300, 4000)
ROUNDS = repeats(1, 25)
USERS = 8
SETTLE_TIMEOUT_S = repeats(180, 300)
PAGE = 500
DAEMONS = ("conductor", "scheduler", "network", "compute", "api-0", "api-1")
ALL = (SUPERVISOR, *DAEMONS)
UNLIMITED = ("instances", "cores", "ram")
HOSTS = 3
COMPARED = re.compile(r"host (\S+): (\d+) guests compared, (\d+) do not belong here")


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with new_cloud(driver="fake", fake_hosts=HOSTS, fake_delay_s=0.05) as cloud:
        # Nobody stays away for so long here: no host is ever down, so there is no excuse for a server in ERROR.
        text = cloud.config.read_text().replace("down_after_s = 5", "down_after_s = 60")
        cloud.config.write_text(text.replace("[api]", "[api]\nworkers = 2"))
        cloud.up()
        yield cloud


def one_round(moments: random.Random) -> list[tuple[str, ...]]:
    """Each alone, some together, and all at once; in any order."""
    plan = [(name,) for name in DAEMONS]
    plan += [tuple(moments.sample(DAEMONS, count)) for count in (2, 3, len(DAEMONS))]
    plan.append(ALL)
    moments.shuffle(plan)
    return plan


def all_servers(rest: Rest) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    marker = ""
    while True:
        answer = rest.send("GET", "compute", f"/v2.1/servers/detail?limit={PAGE}{marker}")
        assert answer.status == 200, answer.body
        page = answer.json["servers"]
        found += page
        if len(page) < PAGE:
            return found
        marker = f"&marker={page[-1]['id']}"


def answers(rest: Rest) -> bool:
    try:
        return rest.send("GET", "compute", "/v2.1/os-services").status == 200
    except (OSError, http.client.HTTPException):  # its workers are on their way
        return False


def settled(rest: Rest) -> bool:
    return answers(rest) and all(
        s["OS-EXT-STS:task_state"] is None and s["status"] != "BUILD" for s in all_servers(rest)
    )


def results_of(rest: Rest, server_id: str) -> dict[str, tuple[str, str]]:
    """request id → how that action ended and why; every action has ended."""
    found = {}
    path = f"/v2.1/servers/{server_id}/os-instance-actions"
    for action in rest.send("GET", "compute", path).json["instanceActions"]:
        whole = rest.send("GET", "compute", f"{path}/{action['request_id']}").json["instanceAction"]
        for event in whole["events"]:
            assert event["finish_time"], (server_id, whole)
            found[action["request_id"]] = (event["result"], event.get("details") or "")
    return found


def check_promises(users: list[User], servers: list[dict[str, Any]]) -> None:
    """Creations whole and once, deletions done, and nobody there whom nobody asked for."""
    named = Counter(server["name"] for server in servers)
    assert set(named.values()) <= {1}, "a server was made twice"
    mine = {server.name: server for user in users for server in user.servers}
    for user in users:
        for wish in user.wishes:
            there = [name for name in wish.names() if name in named]
            gone = [name for name in wish.names() if name in mine and mine[name].deleted]
            if wish.accepted:
                assert set(there) | set(gone) == set(wish.names()), f"{wish} was promised, {there} are there"
            else:
                assert len(there) in (0, wish.count), f"{wish} is half there: {there}"
    asked = {name for user in users for wish in user.wishes for name in wish.names()}
    assert named.keys() <= asked, "servers that nobody asked for"
    undone = [name for name, server in mine.items() if server.deleted == "accepted" and name in named]
    assert not undone, f"{undone} were deleted"


def check_states(rest: Rest, users: list[User], servers: list[dict[str, Any]], power_lost_s: float) -> None:
    """Every server shows what its last action made of it, or that its machine lost power since."""
    shown = {server["id"]: server for server in servers}
    for server in (server for user in users for server in user.servers if server.id in shown):
        status = shown[server.id]["status"]
        may = may_show(server, results_of(rest, server.id), power_lost_s)
        assert status in may, f"{server} shows {status}, not {may}: {shown[server.id].get('fault')}"
    broken = [server for server in servers if server["status"] == "ERROR"]
    assert not broken, broken


def start_all(rest: Rest, servers: list[dict[str, Any]]) -> None:
    """What a user does after his machine lost power; it must be enough."""
    names = {"SHUTOFF": "start", "SUSPENDED": "resume", "PAUSED": "unpause"}

    def start(server: dict[str, Any]) -> None:
        if (name := names.get(server["status"])) is not None:
            answer = rest.send("POST", "compute", f"/v2.1/servers/{server['id']}/action", ACTIONS[name][0])
            assert answer.status == 202, answer.body

    with ThreadPoolExecutor(USERS) as pool:
        list(pool.map(start, servers))
    wait_for("every server runs", lambda: {s["status"] for s in all_servers(rest)} <= {"ACTIVE"}, SETTLE_TIMEOUT_S)


def check_guests(cloud: Cloud, rest: Rest) -> None:
    """Let the hosts compare their guests with the servers once more: there is one for each, and no other."""
    before = len(COMPARED.findall(cloud.log("compute")))

    def compared() -> dict[str, tuple[int, int]]:
        """host → its guests, and those of them that belong nowhere, as it found last."""
        found = COMPARED.findall(cloud.log("compute"))[before:]
        return {host: (int(guests), int(orphans)) for host, guests, orphans in found}

    cloud.kill("conductor")
    wait_for("the hosts compare", lambda: len(compared()) == HOSTS, 60)
    found = compared().values()
    servers = all_servers(rest)
    assert {orphans for _, orphans in found} == {0}, "guests without a server"
    assert {server["status"] for server in servers} <= {"ACTIVE"}, "servers without a guest"
    assert sum(guests for guests, _ in found) == len(servers)


def test_what_was_promised_holds_whoever_is_killed(cloud: Cloud) -> None:
    moments, rest = seeded(), Rest(cloud)
    quota = dict.fromkeys(UNLIMITED, -1)
    assert rest.send("PUT", "compute", f"/v2.1/os-quota-sets/{rest.project_id}", {"quota_set": quota}).status == 200
    answer = rest.send("PUT", "network", f"/v2.0/quotas/{rest.project_id}", {"quota": {"port": -1}})
    assert answer.status == 200, answer.body
    template = {"flavorRef": "1", "imageRef": rest.image(), "networks": [{"uuid": rest.network()}]}
    users = [User(rest, f"u{number}", template, random.Random(moments.random())) for number in range(USERS)]
    killer, over = Killer(cloud, moments), threading.Event()
    try:
        with ThreadPoolExecutor(USERS) as pool:
            lives = [pool.submit(user.live, SERVERS // USERS, over) for user in users]
            try:
                for _ in range(ROUNDS):
                    killer.run(one_round(moments), over=lambda: any(life.done() for life in lives))
            finally:
                over.set()
            for life in lives:
                life.result()
        assert len(killer.kills) == ROUNDS * (len(DAEMONS) + 4)
        promised = sum(wish.count for user in users for wish in user.wishes if wish.accepted)
        assert promised >= SERVERS // USERS * USERS
        wait_for("every server is at rest", lambda: settled(rest), SETTLE_TIMEOUT_S, repeats(1, 5))
        servers = all_servers(rest)
        check_promises(users, servers)
        check_states(rest, users, servers, killer.last("compute"))
        recount(cloud, nothing_left=False)
        start_all(rest, servers)
        check_guests(cloud, rest)
        tear_down(cloud, rest, users)
    finally:
        report(users, killer)


def tear_down(cloud: Cloud, rest: Rest, users: list[User]) -> None:
    paths = [f"/v2.1/servers/{server['id']}" for server in all_servers(rest)]
    with ThreadPoolExecutor(USERS) as pool:
        assert set(pool.map(lambda path: rest.send("DELETE", "compute", path).status, paths)) <= {204}
    wait_for("nothing is left", lambda: not rest.servers(), SETTLE_TIMEOUT_S)
    recount(cloud, nothing_left=True)
    ports = [port["id"] for port in rest.send("GET", "network", "/v2.0/ports?limit=1000").json["ports"]]
    assert {port for user in users for port in user.ports} <= set(ports), "a user's own port went with the server"


def report(users: list[User], killer: Killer) -> None:
    """What the run was made of."""
    wishes = [wish for user in users for wish in user.wishes]
    servers = [server for user in users for server in user.servers]
    print(  # noqa: T201
        f"{len(killer.kills)} kills; {sum(wish.count for wish in wishes)} servers asked for in {len(wishes)} requests, "
        f"{sum(not wish.accepted for wish in wishes)} of them without an answer; "
        f"{sum(len(server.acts) for server in servers)} actions; "
        f"{sum(server.deleted != '' for server in servers)} deletions; {sum(user.refused for user in users)} refusals"
    )
