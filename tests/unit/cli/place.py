"""A state folder with a store in it, and ``nova-fast`` on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nova_fast.cli import main as cli
from nova_fast.config import Config
from nova_fast.model.flavors import Flavor
from nova_fast.state import schema as tables
from nova_fast.state.store import Store
from nova_fast.state.testing import MemoryStore


class Place:
    """A state folder with a store in it, and ``nova-fast`` on it."""

    def __init__(self, folder: Path) -> None:
        self.config = Config(state_dir=str(folder / "var"))
        self.path = self.config.store_path
        self.file = folder / "backup" / "monday.nfb"
        self.file.parent.mkdir()
        self.config_file = folder / "nova-fast.toml"
        self.config_file.write_text(f'state_dir = "{folder / "var"}"\n')

    def run(self, *arguments: str) -> int:
        return cli.main([*arguments, "--config", str(self.config_file)])

    def write(self, work: Callable[[MemoryStore], object]) -> None:
        store = Store.open(self.path)
        try:
            work(MemoryStore(store))
        finally:
            store.close()

    def flavors(self) -> list[str]:
        store = Store.open(self.path, readonly=True)
        try:
            with store.snapshot() as snapshot:
                return [flavor.id for flavor in snapshot.scan(tables.FLAVORS)]
        finally:
            store.close()

    def add_flavor(self, flavor_id: str) -> None:
        flavor = Flavor(id=flavor_id, name=flavor_id, vcpus=1, ram_mib=1, disk_gib=1)
        self.write(lambda made: made.run(lambda tx: tx.put(tables.FLAVORS, flavor)))

    def names(self) -> set[str]:
        return {path.name for path in self.config.state_path.iterdir()} - {"run", "log"}
