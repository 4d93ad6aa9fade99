"""What placement writes to a provider that is a compute host: it changes the host, and everybody hears of it.

What its machine has and its driver vouches for is not up for a decision: totals, and traits that are there by
themselves. What may be given out of it is: ratios and reserved amounts are kept as an operator's decision, which goes
before what the host's configuration says, until the inventory is deleted. docs/decisions/placement.md has the reasons.
"""

from __future__ import annotations

from typing import Any

import msgspec

from nova_fast.commands.aggregates import join, leave
from nova_fast.model.errors import Conflict
from nova_fast.model.events import HostChanged
from nova_fast.model.hosts import Host, Inventory, Shares, settled, stock_of
from nova_fast.model.identity import Caller
from nova_fast.model.placement import AMOUNT_MAX, HOST_CLASSES, capacity_of
from nova_fast.queries import hosts, placement
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction


def set_inventories(tx: Transaction, host: Host, inventories: dict[str, Inventory]) -> None:
    """Let a host give out this much. Raises Conflict for what its machine decides.

    Of the classes that every host has, one that is not given goes back to what the host's configuration says.
    """
    configured = settled(msgspec.structs.replace(host, decided=Shares()))
    decided: dict[str, Any] = {}
    for name, (total_field, reserved_field, ratio_field) in HOST_CLASSES.items():
        own = inventories.get(name)
        if own is None:
            continue
        total = getattr(host.resources, total_field)
        _check_machine(host, own, total)
        if own.reserved != min(getattr(configured, reserved_field), total):
            decided[reserved_field] = own.reserved
        if own.allocation_ratio != getattr(configured, ratio_field):
            decided[ratio_field] = own.allocation_ratio
    machine = {own.resource_class: own for own in stock_of(msgspec.structs.replace(host, inventories=()))}
    for name, own in machine.items():
        if inventories.get(name) != own:
            raise Conflict(
                f"The {name} of host {host.name} are the CPUs its configuration keeps: {own.total}, each given once.",
                hint="change cpu_dedicated_set of the host",
            )
    given = inventories.keys() - HOST_CLASSES.keys() - machine.keys()
    others = tuple(inventories[name] for name in sorted(given))
    _put(tx, host, settled(msgspec.structs.replace(host, decided=Shares(**decided), inventories=others)))


def set_traits(tx: Transaction, name: str, wanted: tuple[str, ...]) -> None:
    """Say of a host what it does not say itself."""
    host = hosts.get(tx, name)
    own = placement.own_traits(host) | {placement.DISABLED}
    _put(tx, host, msgspec.structs.replace(host, traits=tuple(trait for trait in wanted if trait not in own)))


def set_aggregates(tx: Transaction, caller: Caller, name: str, wanted: tuple[str, ...]) -> None:
    """Put a host into these aggregates and out of all others.

    Those of the Compute API are meant where it has one of this UUID; others are kept with the host. Raises Conflict
    where the Compute API would.
    """
    present = {aggregate.id: aggregate for aggregate in tx.select(tables.AGGREGATES_BY_HOST, name)}
    for uuid in sorted(present.keys() - set(wanted)):
        leave(tx, present[uuid], hosts.get(tx, name))
    others = []
    for uuid in wanted:
        aggregate = tx.get(tables.AGGREGATES, uuid)
        if aggregate is None:
            others.append(uuid)
        elif uuid not in present:
            join(tx, aggregate, hosts.get(tx, name))
    host = hosts.get(tx, name)
    _put(tx, host, msgspec.structs.replace(host, aggregates=tuple(others)))


def _check_machine(host: Host, own: Inventory, total: int) -> None:
    name = own.resource_class
    if own.total != total:
        raise Conflict(
            f"The total of {name} is what the machine of host {host.name} has: {total}.",
            hint="give this total, and keep some of it back with reserved",
        )
    if capacity_of(own) > AMOUNT_MAX:
        raise Conflict(
            f"Host {host.name} would give out more {name} than {AMOUNT_MAX}.", hint="a smaller ratio will do"
        )
    if own.min_unit != 1 or own.step_size != 1 or own.max_unit < total:
        raise Conflict(
            f"A server may take any part of the {name} of host {host.name}: min_unit and step_size are 1, and max_unit "
            f"is {total}."
        )


def _put(tx: Transaction, old: Host, new: Host) -> None:
    if new != old:
        tx.put(tables.HOSTS, new)
        tx.emit(HostChanged(host=new))
