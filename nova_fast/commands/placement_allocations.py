"""What consumers take of providers. All that one request says is done, or nothing.

What a consumer takes of a compute host is charged to that host in the same transaction and told to the scheduler, as a
server's claim is. A server is a consumer, but what it takes follows from the server and is not written here.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from nova_fast.commands.claims import charge
from nova_fast.commands.registry import command
from nova_fast.model.commands.placement import RemoveAllocations, SetAllocations, WantedConsumer
from nova_fast.model.errors import BadRequest, Conflict, NotFound
from nova_fast.model.placement import (
    UNKNOWN_TYPE,
    Consumer,
    Provider,
    ProviderShare,
    allows,
    claim_from,
)
from nova_fast.model.tasks import Done
from nova_fast.queries import placement, placement_names
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

CONCURRENT = "placement.concurrent_update"
#: Project and user of a consumer of whom nobody said them (before microversion 1.8).
NOBODY = "00000000-0000-0000-0000-000000000000"
CONSUMERS_MAX, PROVIDERS_MAX = 1000, 1000
_Amounts = dict[str, dict[str, int]]  # provider → resource class → amount
_Pairs = list[tuple[Consumer | None, WantedConsumer]]  # each consumer as it is and as it is to be


@command(SetAllocations)
def set_allocations(tx: Transaction, request: SetAllocations) -> Done:
    """Let consumers take what is said.

    Raises BadRequest for a provider or class that is not there, Conflict for another generation, for what does not fit,
    and for a server that takes something else.
    """
    if len(request.consumers) > CONSUMERS_MAX or any(len(one.shares) > PROVIDERS_MAX for one in request.consumers):
        raise BadRequest(f"At most {CONSUMERS_MAX} consumers with {PROVIDERS_MAX} providers each can be written.")
    pairs: _Pairs = []
    for wanted in request.consumers:
        old = placement.consumer(tx, wanted.uuid)
        if request.compare_generations:
            _check_generation(old, wanted)
        if tx.get(tables.SERVERS, wanted.uuid) is not None:
            _check_server(old, wanted)
        else:
            pairs.append((old, wanted))
    providers = _providers(tx, pairs)
    _check_room(tx, providers, pairs)
    _charge_hosts(tx, providers, pairs)
    for old, wanted in pairs:
        _write(tx, old, wanted)
    touched = {share.provider for old, wanted in pairs for share in (*(old.shares if old else ()), *wanted.shares)}
    for uuid in sorted(touched):
        _count(tx, uuid)
    return Done()


@command(RemoveAllocations)
def remove_allocations(tx: Transaction, request: RemoveAllocations) -> Done:
    """A consumer takes nothing any more. Raises NotFound when it took nothing, Conflict for a server."""
    if placement.consumer(tx, request.consumer) is None:
        raise NotFound(f"No allocations for consumer '{request.consumer}'")
    wanted = WantedConsumer(uuid=request.consumer, shares=())
    set_allocations(tx, SetAllocations(caller=request.caller, consumers=(wanted,), compare_generations=False))
    return Done()


def _check_generation(old: Consumer | None, wanted: WantedConsumer) -> None:
    expected = None if old is None else old.generation
    if wanted.generation != expected:
        said = ["null" if one is None else str(one) for one in (expected, wanted.generation)]
        raise Conflict(f"consumer generation conflict - expected {said[0]} but got {said[1]}", code=CONCURRENT)


def _check_server(old: Consumer | None, wanted: WantedConsumer) -> None:
    """What is written of a server must be what it takes already: tools that heal find nothing to heal."""
    if _amounts(() if old is None else old.shares) != _amounts(wanted.shares):
        raise Conflict(
            f"Consumer {wanted.uuid} is a server: what it takes follows from its flavor and host.",
            hint="resize, move or delete the server",
        )


def _amounts(shares: tuple[ProviderShare, ...]) -> _Amounts:
    return {share.provider: share.resources for share in shares}


def _providers(tx: Transaction, pairs: _Pairs) -> dict[str, Provider]:
    """Every provider that is named, as it is before the change."""
    found: dict[str, Provider] = {}
    for old, wanted in pairs:
        for share in (*(old.shares if old is not None else ()), *wanted.shares):
            if share.provider in found:
                continue
            one = placement.provider(tx, share.provider)
            if one is None:
                raise BadRequest(f"Allocation for resource provider '{share.provider}' that does not exist.")
            found[share.provider] = one
    return found


def _check_room(tx: Transaction, providers: dict[str, Provider], pairs: _Pairs) -> None:
    """Whether all that is wanted fits together, when what these consumers have now is given back.

    Where a provider is overfull already (its inventory was made smaller), what makes it no fuller is let through.
    """
    left: Counter[tuple[str, str]] = Counter()
    for old, _wanted in pairs:
        for share in () if old is None else old.shares:
            left.subtract({(share.provider, name): amount for name, amount in share.resources.items()})
    for _old, wanted in pairs:
        for share in wanted.shares:
            one = providers[share.provider]
            for name, amount in share.resources.items():
                if not placement_names.has_resource_class(tx, name):
                    raise BadRequest(
                        f"Unable to allocate inventory for consumer {wanted.uuid}: No such resource class {name}."
                    )
                left[one.uuid, name] += amount
                _check_fit(one, name, amount, one.used.get(name, 0) + left[one.uuid, name])


def _check_fit(one: Provider, name: str, amount: int, after: int) -> None:
    own = one.inventories.get(name)
    why = ""
    if own is None:
        why = f"Inventory for '{name}' on resource provider '{one.uuid}' invalid."
    elif not allows(own, amount):
        why = "The requested amount would violate inventory constraints."
    elif after > (own.total - own.reserved) * own.allocation_ratio and after > one.used.get(name, 0):
        why = "The requested amount would exceed the capacity."
    if why and own is not None:
        why = f"Unable to create allocation for '{name}' on resource provider '{one.uuid}'. {why}"
    if why:
        raise Conflict(f"Unable to allocate inventory: {why}")


def _charge_hosts(tx: Transaction, providers: dict[str, Provider], pairs: _Pairs) -> None:
    """Give back and take on compute hosts what differs; first all that is given back."""
    for sign in (-1, 1):
        for old, wanted in pairs:
            before, after = _amounts(old.shares if old is not None else ()), _amounts(wanted.shares)
            for uuid, resources in (before if sign < 0 else after).items():
                host = providers[uuid].host
                if host and before.get(uuid) != after.get(uuid):
                    charge(tx, wanted.uuid, host, claim_from(resources), sign)


def _write(tx: Transaction, old: Consumer | None, wanted: WantedConsumer) -> None:
    if not wanted.shares:
        if old is not None:
            tx.delete(tables.CONSUMERS, old.uuid)
        return
    known_type = UNKNOWN_TYPE if old is None else old.type
    tx.put(
        tables.CONSUMERS,
        Consumer(
            uuid=wanted.uuid,
            generation=1 if old is None else old.generation + 1,
            project_id=NOBODY if wanted.project_id is None else wanted.project_id,
            user_id=NOBODY if wanted.user_id is None else wanted.user_id,
            shares=tuple(sorted(wanted.shares, key=lambda share: share.provider)),
            created_at_us=tx.now_us if old is None else old.created_at_us,
            updated_at_us=tx.now_us,
            type=known_type if wanted.type is None else wanted.type,
        ),
    )


def _count(tx: Transaction, uuid: str) -> None:
    """Taking from a provider is a change of it; a host's generation is made from what the host is."""
    record = tx.get(tables.PROVIDERS, uuid)
    if record is not None:
        tx.put(tables.PROVIDERS, msgspec.structs.replace(record, generation=record.generation + 1))
