"""Hosts, and what would fit on them; admins only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from nova_fast.client.answers import Many, One
from nova_fast.client.core import AsyncCore
from nova_fast.client.requests import path_of, query_of
from nova_fast.client.shapes import Capacity, Flavor, Host
from nova_fast.model.sdk import Ask

_HOST = One(Host, "hypervisor")
_HOSTS = Many(Host, "hypervisors")
_CAPACITY = One(Capacity, "capacity")
_PATH = "/v2.1/os-hypervisors"
#: The newest microversion that says how much of a host is taken.
_HEADERS = {"openstack-api-version": "compute 2.87"}


class AsyncHosts:
    """``cloud.hosts``."""

    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    async def list(self, **filters: Any) -> AsyncIterator[Host]:
        """All hosts, page by page."""
        marker = ""
        more = True
        while more:
            target = f"{_PATH}/detail{query_of(filters, marker)}"
            asked = Ask("compute", "GET", target, headers=_HEADERS)
            rows, more = _HOSTS.read(await self._core.ask(asked, alone=True))
            for host in rows:
                yield host
            marker = rows[-1].id if rows else ""

    async def get(self, host_id: str) -> Host:
        """One host. Raises NotFound."""
        return _HOST.read(await self._core.ask(Ask("compute", "GET", path_of(_PATH, host_id), headers=_HEADERS)))

    async def capacity(
        self, flavor: str | Flavor, *, zone: str = "", image: str = "", group_policy: str = ""
    ) -> Capacity:
        """What-if: how many more servers of a flavor (its id or name) fit now, and where; nothing is taken."""
        name = flavor if isinstance(flavor, str) else flavor.id
        asked = {"flavor": name, "zone": zone, "image": image, "group_policy": group_policy}
        query = query_of({key: value for key, value in asked.items() if value})
        return _CAPACITY.read(await self._core.ask(Ask("compute", "GET", f"/v2.1/os-capacity{query}"), alone=True))
