"""Users who make servers, act on them and delete them while daemons die; they remember what the API promised.

An answer of 2xx is a promise. A connection that broke, or 503, leaves the user unsure: it may have happened or not,
but wholly and only once. Everything else must be a refusal with its reason: never an error of ours.
"""

from __future__ import annotations

import http.client
import random
import re
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from .rest import Answer, Rest

#: action → its body, and the status it ends in.
ACTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "start": ({"os-start": None}, "ACTIVE"),
    "stop": ({"os-stop": None}, "SHUTOFF"),
    "reboot": ({"reboot": {"type": "SOFT"}}, "ACTIVE"),
    "hard reboot": ({"reboot": {"type": "HARD"}}, "ACTIVE"),
    "pause": ({"pause": None}, "PAUSED"),
    "unpause": ({"unpause": None}, "ACTIVE"),
    "suspend": ({"suspend": None}, "SUSPENDED"),
    "resume": ({"resume": None}, "ACTIVE"),
}
NOWHERE = "00000000-0000-4000-8000-000000000000"
PATIENCE_S = 0.4  # before somebody without an answer asks for anything else; doubles as long as there is none
PATIENCE_S_MAX = 4.0
UNSURE = 0  # the status of a request without an answer
#: A guest is lost with its machine; its host tells of it within this time.
NOTICED_S = 20
#: Why an action on a guest that was lost with its machine may fail.
LOST_GUEST = re.compile("There is no guest for server|Cannot .* a guest that is")


@dataclass
class Act:
    """An action that was asked for and not refused."""

    name: str
    request_id: str  # "" = no answer
    at_s: float


@dataclass
class Mine:
    """A server as its user knows it."""

    id: str
    name: str
    at_s: float
    acts: list[Act] = field(default_factory=list)
    deleted: str = ""  # "", "unsure", "accepted"


@dataclass
class Wish:
    """Servers that were asked for in one request."""

    name: str
    count: int
    accepted: bool

    def names(self) -> list[str]:
        return [self.name] if self.count == 1 else [f"{self.name}-{number}" for number in range(1, self.count + 1)]


class User:
    """One of them; each has servers of his own."""

    def __init__(self, rest: Rest, name: str, template: dict[str, Any], choices: random.Random) -> None:
        self.rest = rest
        self.name = name
        self.template = template
        self.wishes: list[Wish] = []
        self.servers: list[Mine] = []
        self.ports: set[str] = set()
        self.refused = 0
        self._patience_s = PATIENCE_S
        self._choices = choices

    def live(self, creations: int, over: threading.Event) -> None:
        """Create servers until so many were promised, and do everything else between; goes on until ``over``."""
        made = 0
        while made < creations or not over.is_set():
            chance = self._choices.random()
            if chance < 0.35 and made < creations:
                made += self._create()
            elif chance < 0.45:
                self._delete()
            elif chance < 0.92:
                self._act()
            else:
                self._ask_for_nonsense()
            if made >= creations:
                time.sleep(0.05)

    def _create(self) -> int:
        """Ask for some; how many were promised."""
        count = self._choices.choice((1, 1, 1, 1, 2, 4))
        wish = Wish(f"{self.name}-{len(self.wishes)}", count, accepted=False)
        body = {**self.template, "name": wish.name, "min_count": count, "max_count": count}
        if count == 1 and self._choices.random() < 0.25 and (port := self._port()):
            body["networks"] = [{"port": port}]
        answer = self._send("POST", "/v2.1/servers", {"server": body})
        assert answer.status in (202, UNSURE), answer.body
        self.wishes.append(wish)
        if answer.status == 202:
            wish.accepted = True
            at_s = time.monotonic()
            ids = {wish.name: answer.json["server"]["id"]} if count == 1 else self._ids(wish)
            self.servers += [Mine(server_id, name, at_s) for name, server_id in ids.items()]
        return count if wish.accepted else 0

    def _ids(self, wish: Wish) -> dict[str, str]:
        """The servers of a request for several: what a reader sees once they have been promised."""
        answer = self._send("GET", f"/v2.1/servers?name=^{wish.name}-")
        if answer.status == UNSURE:
            return {}
        found = {server["name"]: server["id"] for server in answer.json["servers"]}
        assert sorted(found) == sorted(wish.names()), "all of a request for several servers, or none"
        return found

    def _port(self) -> str:
        body = {"port": {"network_id": self.template["networks"][0]["uuid"], "name": self.name}}
        answer = self._send("POST", "/v2.0/ports", body, face="network")
        if answer.status == UNSURE:
            return ""
        assert answer.status == 201, answer.body
        self.ports.add(answer.json["port"]["id"])
        return str(answer.json["port"]["id"])

    def _delete(self) -> None:
        server = self._one_of_mine()
        if server is None:
            return
        status = self._send("DELETE", f"/v2.1/servers/{server.id}").status
        assert status in (204, UNSURE) or (status == 404 and server.deleted == "unsure"), status
        server.deleted = "unsure" if status == UNSURE else "accepted"

    def _act(self) -> None:
        server = self._one_of_mine()
        if server is None or server.deleted:
            return
        name = self._choices.choice(list(ACTIONS))
        answer = self._send("POST", f"/v2.1/servers/{server.id}/action", ACTIONS[name][0])
        assert answer.status in (202, 409, UNSURE), answer.body
        if answer.status == 409:
            self.refused += 1
            return
        request_id = answer.headers["x-compute-request-id"] if answer.status == 202 else ""
        server.acts.append(Act(name, request_id, time.monotonic()))

    def _ask_for_nonsense(self) -> None:
        method, path, body, status = self._choices.choice(
            (
                ("POST", "/v2.1/servers", {"server": {**self.template, "name": "x", "flavorRef": NOWHERE}}, 400),
                ("POST", "/v2.1/servers", {"server": {**self.template, "name": "x", "imageRef": NOWHERE}}, 400),
                ("POST", "/v2.1/servers", {"server": {**self.template, "name": "x" * 300}}, 400),
                ("POST", "/v2.1/servers", {"server": {**self.template, "name": "x", "min_count": -1}}, 400),
                ("POST", f"/v2.1/servers/{NOWHERE}/action", {"os-start": None}, 404),
                ("DELETE", f"/v2.1/servers/{NOWHERE}", None, 404),
                ("GET", f"/v2.1/servers/{NOWHERE}", None, 404),
            )
        )
        answer = self._send(method, path, body)
        assert answer.status in (status, UNSURE), (method, path, answer.status, answer.body)
        self.refused += answer.status == status

    def _one_of_mine(self) -> Mine | None:
        there = [server for server in self.servers if server.deleted != "accepted"]
        return self._choices.choice(there) if there else None

    def _send(self, method: str, path: str, body: Any = None, face: str = "compute") -> Answer:
        """The answer; UNSURE when there was none, or when it says that it cannot be known."""
        try:
            answer = self.rest.send(method, face, path, body)
        except (OSError, http.client.HTTPException):
            answer = None
        if answer is not None and answer.status != 503:
            self._patience_s = PATIENCE_S
            return answer
        time.sleep(self._patience_s)
        self._patience_s = min(2 * self._patience_s, PATIENCE_S_MAX)
        return Answer(UNSURE, {}, b"")


def may_show(server: Mine, results: dict[str, tuple[str, str]], power_lost_s: float) -> set[str]:
    """The statuses in which a server may have ended.

    ``results`` is what the server's action records say: request id → (Success or Error, why). ``power_lost_s`` is when
    its machine last lost all guests: it is off then, unless it was suspended to disk.
    """
    may, at_s = {"ACTIVE"}, server.at_s
    for act in server.acts:
        end = ACTIONS[act.name][1]
        if not act.request_id:
            may |= {end, "ERROR"} if act.name == "hard reboot" else {end}
            continue
        result, why = results[act.request_id]
        at_s = act.at_s
        if result == "Success":
            may = {end}
            continue
        replaced = "hard reboot replaced" in why
        assert replaced or (LOST_GUEST.search(why) and power_lost_s > act.at_s - NOTICED_S), (server, act, why)
        may = may | {"SHUTOFF"}
    return may | ({"SHUTOFF"} if power_lost_s > at_s - NOTICED_S else set())
