"""The writer whose log is cut: the production writer, engine and commands, and daemons that answer at once.

Run as a program under the recorder: ``workload.py FOLDER SEED OPERATIONS [how it is broken]``. It tells the recorder of
each commit it has acknowledged, in JSON that says what was promised.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import lmdb

from nova_fast.commands import registry
from nova_fast.conductor.writer import Job, Outcome
from nova_fast.model.base import Message
from nova_fast.model.commands.flavors import CreateFlavor
from nova_fast.model.commands.networks import CreateNetworks, NewNetwork
from nova_fast.model.commands.servers import DeleteServer
from nova_fast.model.errors import NovaFastError
from nova_fast.model.quotas import Quota
from nova_fast.model.tasks import Done
from nova_fast.state import datafile
from nova_fast.state import schema as tables
from nova_fast.state import store as store_module
from nova_fast.state.store import Store
from nova_fast.state.testing import MemoryStore
from nova_fast.state.transaction import Transaction
from tests.unit.conductor.player import ADMIN, ALICE, Cloud
from tests.unit.conductor.rig import Rig

USERS = 6
GROWTH_BYTES = 64 << 10  # so that the file grows often


class Users:
    """Asks for things and says what was promised."""

    def __init__(self, rig: Rig, marks: int, seed: int, operations: int) -> None:
        self.rig = rig
        self.marks = marks
        self.random = random.Random(seed)
        self.servers: list[str] = []
        self.operations = operations
        self.count = 0

    async def do(self, request: Message, promise: str) -> Any:
        """Have it done by the writer; the mark is made when the answer goes out, as the hub would send it."""
        told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        transaction_id = 0

        def work(tx: Transaction) -> Message:
            nonlocal transaction_id
            transaction_id = tx._txn.id()
            return registry.run(tx, request)

        def done(outcome: Outcome) -> None:
            if not isinstance(outcome, NovaFastError):
                names = list(getattr(outcome, "server_ids", ())) or [getattr(request, "server_id", "")]
                self.mark({"transaction": transaction_id, promise: names})
            told.set_result(outcome)

        self.rig.writer.submit(Job(work=work, done=done, call_id=self.random.randbytes(16).hex()))
        outcome = await told
        assert not isinstance(outcome, NovaFastError), outcome
        return outcome

    def mark(self, said: dict[str, Any]) -> None:
        os.write(self.marks, json.dumps(said).encode())

    async def live(self) -> None:
        while self.count < self.operations:
            self.count += 1
            what = self.random.random()
            if what < 0.5:
                data = self.random.randbytes(self.random.choice((0, 10, 3000, 9000))) or None
                wish = self.rig.cloud.wish(ALICE, name=f"vm{self.count}", user_data=data)
                self.servers += (await self.do(wish, "created")).server_ids
            elif what < 0.85 and self.servers:
                server_id = self.servers.pop(self.random.randrange(len(self.servers)))
                self.mark({"transaction": 0, "asked to delete": [server_id]})
                await self.do(DeleteServer(caller=ALICE, server_id=server_id), "deleted")
            elif what < 0.95:
                flavor = CreateFlavor(caller=ADMIN, name=f"f{self.count}", vcpus=1, ram_mib=64, disk_gib=1)
                await self.do(flavor, "other")
            else:
                await self.do(CreateNetworks(caller=ALICE, networks=(NewNetwork(name=f"n{self.count}"),)), "other")


def unlimited(tx: Transaction) -> Done:
    names = ("instances", "cores", "ram", "network:port", "network:network")
    tx.put(tables.QUOTAS, Quota(project_id=ALICE.project_id, limits=dict.fromkeys(names, -1)))
    return Done()


async def serve(store: Store, marks: int, seed: int, operations: int) -> None:
    cloud = Cloud(MemoryStore(store))
    cloud.commit(unlimited)
    async with Rig(cloud).running() as rig:
        rig.dispatcher.networks.after_commit()
        users = Users(rig, marks, seed, operations)
        await asyncio.gather(*(users.live() for _ in range(USERS)))


def broken_on_purpose(how: str) -> None:
    """What a check must see: a store that does not sync, and two that leave their size to fdatasync."""
    if how == "without-sync":
        real = lmdb.open
        store_module.lmdb.open = lambda *a, **k: real(*a, **{**k, "sync": False, "metasync": False})
    elif how == "growth-after":
        store_module.Store._make_room = lambda *_: None
    elif how == "without-growth":
        store_module.Store._make_room = lambda *_: None
        store_module.Store._sync_growth = lambda *_: None
    else:
        assert not how, how


def main(folder: Path, seed: int, operations: int, how: str = "") -> None:
    broken_on_purpose(how)
    datafile.GROWTH_BYTES = GROWTH_BYTES
    marks = os.open(folder / "marks", os.O_WRONLY | os.O_CREAT)
    store = Store.open(folder / "store")
    asyncio.run(serve(store, marks, seed, operations))
    store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
