"""Cuts the log of a recorded writer at random places and looks at what is left.

A program of its own (``cutter.py RECORDED SCRATCH SEED CUTS KIND``), because a store that was cut badly may end whoever
reads it: LMDB maps its file, and a page behind the file's end is a SIGBUS.
"""

from __future__ import annotations

import bisect
import hashlib
import random
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from nova_fast.state import schema as tables
from nova_fast.state.store import Store
from tests.powercut.disk import Disk, Record, read_log
from tests.unit.recount import assert_nothing_leaks

KEPT = 32  # commits that a cut may lead back to
FOUNDING = 2  # transactions of a new store: tables and schema version
FOUNDING_RECORDS = 60  # of the log: a new store is made in them
META_OFFSETS = (32, 4128)  # where LMDB writes the changing part of its two meta pages


@dataclass(frozen=True)
class History:
    """A recorded writer."""

    log: list[Record]
    folder: Path

    def name_in(self, place: Path, name: str) -> Path:
        """Where a recorded file is put when what is left is written out elsewhere."""
        return place / Path(name).relative_to(self.folder)


# ---------------------------------------------------------------------- what must be there
@dataclass(frozen=True)
class Found:
    """What the production store finds in a folder."""

    transaction: int
    digest: str
    servers: frozenset[str]
    staying: frozenset[str]  # those that are not being deleted


def look(place: Path) -> Found:
    """Open what is left as the conductor would."""
    store = Store.open(place / "store")
    try:
        digest = hashlib.blake2b()
        with store._environment.begin() as txn:
            for name, database in store._databases.items():
                digest.update(name.encode())
                for key, value in txn.cursor(db=database):
                    digest.update(len(key).to_bytes(4, "big") + key + len(value).to_bytes(4, "big") + value)
        with store.snapshot() as snapshot:
            servers = frozenset(server.id for server in snapshot.scan(tables.SERVERS))
            leaving = {w.server_id for w in snapshot.scan(tables.WORKFLOWS) if "delete_server" in (w.kind, w.then)}
        transaction = int(store._environment.info()["last_txnid"])
        return Found(transaction, digest.hexdigest(), servers, servers - leaving)
    finally:
        store.close()


def check_all(place: Path) -> None:
    """Every count is what a recount finds, and every index has exactly the entries of its table's records."""
    store = Store.open(place / "store")
    try:
        with store.snapshot() as snapshot:
            if snapshot.size(tables.NETWORKS):
                assert_nothing_leaks(snapshot)
            for table in tables.TABLES:
                rows = list(snapshot.scan(table))
                for index in table.indexes:
                    wanted = {entry for row in rows for entry in index.entries(row, table.primary(table.key(row)))}
                    database = store._databases[index.name]
                    assert {bytes(key) for key, _ in snapshot._txn.cursor(db=database)} == wanted, index.name
    finally:
        store.close()


def write_out(history: History, files: dict[str, bytes], place: Path, chance: random.Random | None = None) -> None:
    """Put what is left into a folder; LMDB's lock file is a mapping and may hold anything."""
    shutil.rmtree(place, ignore_errors=True)
    (place / "store").mkdir(parents=True)
    for name, content in files.items():
        path = history.name_in(place, name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    if chance is not None and (size := chance.choice((-1, 0, 8192, 32896))) >= 0:
        (place / "store" / "lock.mdb").write_bytes(chance.choice((bytes(size), chance.randbytes(size))))


class Commits:
    """What each commit of the last few left behind, worked out when somebody asks."""

    def __init__(self, history: History, folder: Path) -> None:
        self._history = history
        self._folder = folder
        self._files: dict[int, dict[str, bytes]] = {}
        self._found: dict[int, Found] = {}
        self.newest = 0

    def committed(self, disk: Disk, meta_page: bytes) -> None:
        """A commit's meta page has been written: from now on it may be what is found."""
        self.newest = int.from_bytes(meta_page[-8:], "little")  # mm_txnid, the last field of LMDB's MDB_meta
        self._files[self.newest] = disk.whole()
        self._files.pop(self.newest - KEPT, None)

    def __getitem__(self, transaction: int) -> Found:
        if transaction not in self._found:
            write_out(self._history, self._files[transaction], self._folder)
            self._found[transaction] = look(self._folder)
            check_all(self._folder)
        return self._found[transaction]


def cut_many(history: History, folder: Path, chance: random.Random, *, cuts: int, forgetful: bool) -> int:
    """Cut the log at so many places and look at what each leaves; says after how many different commits that was."""
    tense = [at for at, record in enumerate(history.log) if record.kind != "W" or record.offset in META_OFFSETS]
    anywhere = range(len(history.log))
    places = sorted(chance.choice(chance.choice((tense, anywhere, anywhere[:FOUNDING_RECORDS]))) for _ in range(cuts))
    disk, commits = Disk(forgetful=forgetful), Commits(history, folder / "whole")
    seen: set[int] = set()
    for at, record in enumerate(history.log):
        before = history.log[at - 1]
        disk.play(record)
        if record.kind == "W" and record.offset in META_OFFSETS:
            commits.committed(disk, record.data)
        for _ in range(bisect.bisect_right(places, at) - bisect.bisect_left(places, at)):
            write_out(history, disk.cut(chance), folder / "cut", chance)
            found = look(folder / "cut")
            seen.add(found.transaction)
            try:
                compare(found, disk, commits)
            except AssertionError as error:
                raise AssertionError(f"cut behind record {at} ({before.kind}, {record.kind}): {error}") from error
    return len(seen)


def compare(found: Found, disk: Disk, commits: Commits) -> None:
    """What was found against what was promised, in the users' words and byte for byte."""
    promised = max((mark["transaction"] for mark in disk.marks), default=0)
    assert found.transaction >= promised, f"transaction {promised} was acknowledged, {found.transaction} is there"
    if not promised and found.transaction <= FOUNDING:
        return  # the store had not been founded yet, so opening it began a new one
    assert found.transaction <= commits.newest, f"transaction {found.transaction} was never written"
    created = {name for mark in disk.marks for name in mark.get("created", ())}
    asked = {name for mark in disk.marks for name in mark.get("asked to delete", ())}
    deleted = {name for mark in disk.marks for name in mark.get("deleted", ())}
    assert created - asked <= found.servers, f"servers are lost: {created - asked - found.servers}"
    assert not deleted & found.staying, f"deleted servers are back: {deleted & found.staying}"
    assert found.digest == commits[found.transaction].digest, f"transaction {found.transaction} is torn"


def main(recorded: Path, scratch: Path, seed: int, cuts: int, kind: str) -> int:
    """Says what was found wrong; the exit code is 1 then."""
    history = History(read_log(recorded / "log"), recorded)
    try:
        commits = cut_many(history, scratch, random.Random(seed), cuts=cuts, forgetful=kind == "forgetful")
    except Exception as error:  # whatever the store says of what it finds is a finding
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
        return 1
    sys.stdout.write(f"{cuts} cuts, {commits} commits\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))
