"""PCI devices: what a flavor asks for by alias, and whether pools of free devices have it.

``pci_passthrough:alias`` is ``NAME:COUNT,…``; an alias (option ``pci_alias``) says which devices that are, and how near
to the guest's NUMA cells they must be. The first of these policies that gives enough devices is used, no laxer one than
the policy asked for: *required* (in the guest's cells), *legacy* (or in no cell that is known), *preferred* (anywhere,
near ones first); *socket* is in the sockets of the guest's cells.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from nova_fast.model.errors import BadRequest
from nova_fast.model.tasks import PlacementRequest
from nova_fast.model.topology import NumaCell, PciPool
from nova_fast.model.words import TRUE_WORDS
from nova_fast.scheduler.topology.wanted import feature

_SPEC = "pci_passthrough:alias"
_IGNORED = frozenset(("resource_class", "traits"))  # placement's business in Nova
_REMOTE = "remote_managed"
_LIVE = "live_migratable"
_PHYSICAL_FUNCTION, _VDPA = "type-PF", "vdpa"

Properties = dict[str, Any]


class Alias(NamedTuple):
    """Devices that a flavor may ask for: those with all properties of one of the entries."""

    policy: str
    entries: tuple[Properties, ...]


class DeviceRequest(NamedTuple):
    """Some devices of one alias."""

    amount: int
    policy: str  # legacy, required, preferred, socket
    entries: tuple[Properties, ...]


class Pool:
    """Free devices that cannot be told apart; counted down while a request is tried."""

    __slots__ = ("count", "devices", "numa_node", "properties")

    def __init__(self, pool: PciPool) -> None:
        kind = {"dev_type": pool.device_type} if pool.device_type else {}
        own = {"vendor_id": pool.vendor_id, "product_id": pool.product_id, "numa_node": pool.numa_node}
        self.properties: Properties = {**own, **kind, **pool.tags}
        self.count = pool.count
        self.numa_node = pool.numa_node
        self.devices = list(zip_longest(pool.addresses, pool.parents, fillvalue=""))  # each with its card

    def take(self, count: int) -> list[tuple[str, str]]:
        """Give some away: the first ones."""
        taken, self.devices = self.devices[:count], self.devices[count:]
        self.count -= count
        return taken

    def lose(self, taken: list[tuple[str, str]]) -> None:
        """Others were taken: a card of which a part is somebody's is nobody's, nor are the parts of a taken card."""
        gone, cards = {address for address, _ in taken}, {card for _, card in taken if card}
        kept = [one for one in self.devices if one[0] not in cards and one[1] not in gone]
        self.count -= len(self.devices) - len(kept)
        self.devices = kept

    def is_on(self, name: str) -> bool:
        return str(self.properties.get(name, "")).lower() in TRUE_WORDS


def pools_of(pools: Iterable[PciPool]) -> list[Pool]:
    """Pools to try a request on; those of which less is said come first, as in Nova."""
    return sorted(map(Pool, pools), key=lambda pool: len(pool.properties))


def read_aliases(texts: Iterable[str]) -> dict[str, Alias]:
    """The aliases of the option ``pci_alias``. Raises BadRequest for one that cannot be read."""
    aliases: dict[str, Alias] = {}
    for text in texts:
        try:
            entry = json.loads(text)
            name = str(entry.pop("name")).strip()
            policy = entry.pop("numa_policy", "") or "legacy"
        except (ValueError, KeyError, AttributeError, TypeError) as e:
            raise BadRequest(
                f"{text!r} is no alias.", field="scheduler.pci_alias", hint='{"name": …, …} in JSON'
            ) from e
        if "device_type" in entry:
            entry["dev_type"] = entry.pop("device_type")
        if _LIVE in entry:
            entry[_LIVE] = "true" if str(entry[_LIVE]).lower() in TRUE_WORDS else "false"
        known = aliases.get(name, Alias(policy, ()))
        if known.policy != policy:
            raise BadRequest(f"The alias {name} has two NUMA policies.", field="scheduler.pci_alias")
        aliases[name] = Alias(policy, (*known.entries, {k: v for k, v in entry.items() if k not in _IGNORED}))
    return aliases


def wanted_devices(request: PlacementRequest, aliases: dict[str, Alias]) -> tuple[DeviceRequest, ...]:
    """The devices a request asks for. Raises BadRequest for an alias that does not exist."""
    text = request.extra_specs.get(_SPEC, "")
    policy = feature(request, "pci_numa_affinity_policy")
    found = []
    for part in text.split(",") if text else ():
        name, _colon, count = part.partition(":")
        alias = aliases.get(name.strip())
        if alias is None or not count.strip().isdecimal():
            raise BadRequest(
                f"The flavor's {_SPEC} cannot be read: {part!r}.", field=_SPEC, hint="an alias and a number"
            )
        found.append(DeviceRequest(int(count), policy or alias.policy, alias.entries))
    return tuple(found)


def have_devices(
    pools: Sequence[PciPool],
    requests: Sequence[DeviceRequest],
    host_cells: Sequence[NumaCell] = (),
    chosen: Sequence[int] = (),
) -> bool:
    """Whether pools have all devices asked for, near the host cells ``chosen`` for the guest (none: anywhere)."""
    return take_devices(pools, requests, host_cells, chosen) is not None


def take_devices(
    pools: Sequence[PciPool],
    requests: Sequence[DeviceRequest],
    host_cells: Sequence[NumaCell] = (),
    chosen: Sequence[int] = (),
) -> tuple[str, ...] | None:
    """The addresses of all devices asked for, as far as the pools tell any; None when there are not so many."""
    left = pools_of(pools) if requests else []
    found: list[str] = []
    for request in requests:
        usable = _usable(left, request, host_cells, chosen)
        if not usable or _count(usable) < request.amount:
            return None
        wanted = request.amount
        for pool in usable:
            count = min(pool.count, wanted)
            taken = pool.take(count)
            wanted -= count
            found += [address for address, _card in taken]
            for other in left:
                other.lose(taken)
        left = [pool for pool in left if pool.count]
    return tuple(found)


def _usable(
    pools: list[Pool], request: DeviceRequest, host_cells: Sequence[NumaCell], chosen: Sequence[int]
) -> list[Pool]:
    found = [pool for pool in pools if any(_has(pool, entry) for entry in request.entries)]
    if _count(found) < request.amount:
        return []
    if chosen:
        found = _near(found, request, host_cells, chosen)
    asked = [entry.get("dev_type") for entry in request.entries]
    for kind in (_PHYSICAL_FUNCTION, _VDPA):
        if kind not in asked:  # only who asks for the whole of a network card gets it
            found = [pool for pool in found if pool.properties.get("dev_type") != kind]
    if not any(str(entry.get(_REMOTE, "")).lower() in TRUE_WORDS for entry in request.entries):
        found = [pool for pool in found if not pool.is_on(_REMOTE)]
    for word in ("true", "false"):
        if all(entry.get(_LIVE) == word for entry in request.entries):
            found = [pool for pool in found if pool.properties.get(_LIVE) == word]
    return found


def _near(
    pools: list[Pool], request: DeviceRequest, host_cells: Sequence[NumaCell], chosen: Sequence[int]
) -> list[Pool]:
    """The pools that are near enough to the cells of the guest."""
    near = [pool for pool in pools if pool.numa_node in chosen]
    if request.policy == "required" or _count(near) >= request.amount:
        return near
    if request.policy == "socket":
        if any(cell.socket is None for cell in host_cells):
            return []
        sockets = {cell.socket for cell in host_cells if cell.number in chosen}
        numbers = {cell.number for cell in host_cells if cell.socket in sockets}
        return [pool for pool in pools if pool.numa_node in numbers]
    known = (*chosen, None)
    near = [pool for pool in pools if pool.numa_node in known]
    if request.policy != "preferred" or _count(near) >= request.amount:
        return near
    return sorted(pools, key=lambda pool: pool.numa_node not in known)


def _has(pool: Pool, entry: Properties) -> bool:
    return all(_lower(pool.properties.get(name)) == _lower(value) for name, value in entry.items())


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _count(pools: list[Pool]) -> int:
    return sum(pool.count for pool in pools)
