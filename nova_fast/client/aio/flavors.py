"""Flavors: what a server may be made of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from nova_fast.client.answers import Many, One, check
from nova_fast.client.core import AsyncCore
from nova_fast.client.requests import new_key, path_of, query_of
from nova_fast.client.shapes import Flavor
from nova_fast.model.errors import NotFound
from nova_fast.model.sdk import Ask

_FLAVOR = One(Flavor, "flavor")
_FLAVORS = Many(Flavor, "flavors")
_PATH = "/v2.1/flavors"


class AsyncFlavors:
    """``cloud.flavors``."""

    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    async def list(self, **filters: Any) -> AsyncIterator[Flavor]:
        """The flavors one may use, page by page; filters as the Compute API has them."""
        marker = ""
        more = True
        while more:
            target = f"{_PATH}/detail{query_of(filters, marker)}"
            rows, more = _FLAVORS.read(await self._core.ask(Ask("compute", "GET", target), alone=True))
            for flavor in rows:
                yield flavor
            marker = rows[-1].id if rows else ""

    async def get(self, flavor_id: str) -> Flavor:
        """One flavor. Raises NotFound."""
        return _FLAVOR.read(await self._core.ask(Ask("compute", "GET", path_of(_PATH, flavor_id))))

    async def find(self, name: str) -> Flavor:
        """The flavor of this name. Raises NotFound."""
        async for flavor in self.list():
            if flavor.name == name:
                return flavor
        raise NotFound(f"Flavor {name} could not be found.", code="flavor_not_found")

    async def create(self, name: str, *, vcpus: int, ram_mib: int, disk_gib: int) -> Flavor:
        """Make a flavor; admins only."""
        body = msgspec.json.encode({"flavor": {"name": name, "vcpus": vcpus, "ram": ram_mib, "disk": disk_gib}})
        return _FLAVOR.read(await self._core.ask(Ask("compute", "POST", _PATH, body, new_key())))

    async def delete(self, flavor_id: str) -> None:
        check(await self._core.ask(Ask("compute", "DELETE", path_of(_PATH, flavor_id))))
