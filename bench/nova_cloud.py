"""A real Nova beside our cloud, in the same run: the same requests from the same generators.

It is not installed by us: it needs a message broker, a database, a cache and five services. DevStack brings it up on a
machine of its own or on this one (``VIRT_DRIVER=fake`` in its ``local.conf``, so that both have fake hypervisors). Then
a file says where it is, and ``NOVA_CLOUD`` names the file::

    {"host": "127.0.0.1", "port": 8774, "prefix": "/v2.1", "token": "gAAAA…",
     "create": {"server": {"name": "bench", "imageRef": "…", "flavorRef": "…", "networks": "none"}}}

Without it these measures are passed over. What is created there is deleted again.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from bench import closed_loop
from bench.api_reads import Length
from bench.cloud import VERSION, Cloud
from bench.journeys import request_bytes
from bench.results import not_measured, report

VARIABLE = "NOVA_CLOUD"
SERVERS = 50
BOOT_WITHIN_S = 300.0
READERS = 8  # a Nova with its usual number of workers


class NovaCloud(msgspec.Struct, frozen=True):
    """Where a Nova is, and who asks."""

    host: str
    port: int
    token: str
    create: dict[str, Any]
    prefix: str = "/v2.1"

    @property
    def headers(self) -> dict[str, str]:
        return {"X-Auth-Token": self.token, "OpenStack-API-Version": f"compute {VERSION}"}

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request; its body. Fails for anything but 2xx."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        data = None if body is None else json.dumps(body)
        headers = self.headers | ({"Content-Type": "application/json"} if data else {})
        connection.request(method, self.prefix + path, body=data, headers=headers)
        answer = connection.getresponse()
        raw = answer.read()
        connection.close()
        assert answer.status < 300, f"{method} {path}: {answer.status} {raw[:300]!r}"
        return json.loads(raw) if raw else None

    def requests(self, method: str, paths: list[str]) -> list[bytes]:
        return [request_bytes(method, self.prefix + path, self.headers) for path in paths]


def measure(cloud: Cloud, create: dict[str, Any], length: Length) -> None:
    """Boots of both, then reads of both in turns."""
    named = os.environ.get(VARIABLE)
    if not named:
        not_measured("nova_cloud", f"no ${VARIABLE} names a Nova to compare with (bench/nova_cloud.py says how)")
        return
    nova = msgspec.json.decode(Path(named).read_bytes(), type=NovaCloud)
    ours = NovaCloud("127.0.0.1", cloud.ports["compute"], cloud.token, create)
    ids = {}
    for name, one in (("nova", nova), ("ours_one_by_one", ours)):
        ids[name], accepted, boots = boot(one)
        report(f"{name}_accepted", accepted, "1/s", None)
        report(f"{name}_boots_to_active", boots, "1/s", None)
    theirs, mine = [f"/servers/{one}" for one in ids["nova"]], [f"/servers/{one}" for one in ids["ours_one_by_one"]]
    try:
        for what, their_paths, our_paths in (
            ("get_server", theirs, mine),
            (
                f"get_servers_detail_{SERVERS}",
                [f"/servers/detail?limit={SERVERS}"],
                [f"/servers/detail?limit={SERVERS}"],
            ),
        ):
            rates: dict[str, list[float]] = {"nova": [], "ours": []}
            for _ in range(length.rounds):
                for who, one, paths in (("nova", nova, their_paths), ("ours", ours, our_paths)):
                    requests = one.requests("GET", paths)
                    found = closed_loop.run(one.port, READERS, length.round_s, requests, host=one.host)
                    rates[who].append(found.rate)
            report(f"nova_{what}", median(rates["nova"]), "1/s", None)
            ratios = [our / their for our, their in zip(rates["ours"], rates["nova"], strict=True)]
            report(f"{what}_to_nova", median(ratios), "times", None)
    finally:
        for path in theirs:
            nova.ask("DELETE", path)


def boot(one: NovaCloud) -> tuple[list[str], float, float]:
    """Servers one after the other from one client: their ids, accepted a second, and ACTIVE a second."""
    begin = time.perf_counter()
    ids = [one.ask("POST", "/servers", one.create)["server"]["id"] for _ in range(SERVERS)]
    accepted_s = time.perf_counter() - begin
    left = set(ids)
    while left:
        assert time.perf_counter() - begin < BOOT_WITHIN_S, f"{len(left)} servers did not become ACTIVE"
        for server_id in sorted(left):
            state = one.ask("GET", f"/servers/{server_id}")["server"]["status"]
            assert state != "ERROR", server_id
            if state != "ACTIVE":
                break
            left.discard(server_id)
        time.sleep(0.05)
    return ids, SERVERS / accepted_s, SERVERS / (time.perf_counter() - begin)
