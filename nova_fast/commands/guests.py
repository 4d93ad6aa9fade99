"""What hosts say of guests, recorded: the conductor calls these, no face does.

While a workflow is at work on a server its answer decides, and what the host says by itself meanwhile is only kept with
the workflow: it counts when the workflow ends without an answer.
"""

from __future__ import annotations

import msgspec

from nova_fast.commands.servers import save_server
from nova_fast.model.servers import Server
from nova_fast.model.states import PowerState, VmState
from nova_fast.model.tasks import GuestInventory, WantedGuests
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

_VM_STATES = {
    PowerState.RUNNING: VmState.ACTIVE,
    PowerState.PAUSED: VmState.PAUSED,
    PowerState.SUSPENDED: VmState.SUSPENDED,
    PowerState.SHUTDOWN: VmState.STOPPED,
    PowerState.CRASHED: VmState.STOPPED,
    PowerState.NOSTATE: VmState.STOPPED,
}


def record_guest_state(tx: Transaction, host: str, server_id: str, power_state: PowerState) -> None:
    """Take over what a host says of a guest by itself."""
    server = tx.get(tables.SERVERS, server_id)
    if server is None or server.host != host:
        return
    _observe(tx, server, power_state)
    seen = tx.need(tables.SERVERS, server_id, "Instance")
    tx.put(tables.SERVERS, msgspec.structs.replace(seen, observed_at_us=tx.time_us))


def record_inventory(tx: Transaction, inventory: GuestInventory, since_us: int) -> WantedGuests:
    """Take over the states of all guests of a host, and say which belong there.

    A server whose guest is missing is stopped, which is what it is; starting it makes the guest again if its disk is
    there. ``since_us`` is before the inventory was made: of a server that its host has told of after it (a spawn that
    just ended, a guest that just changed) the inventory may know less, so it says nothing.
    """
    states = {guest.server_id: guest.power_state for guest in inventory.guests}
    servers = list(tx.scan_index(tables.SERVERS_BY_HOST, inventory.host))
    for server in servers:
        if server.observed_at_us < since_us:
            _observe(tx, server, states.get(server.id, PowerState.NOSTATE))
    return WantedGuests(server_ids=tuple(server.id for server in servers))


def take_over(tx: Transaction, server: Server, power_state: PowerState) -> Server:
    """Show a server as its guest is. One in ERROR stays there: that is for a person to end."""
    vm_state = settled_state(server.vm_state, power_state)
    if vm_state is server.vm_state is VmState.SUSPENDED:
        power_state = server.power_state
    if (vm_state, power_state) == (server.vm_state, server.power_state):
        return server
    return save_server(tx, server, vm_state=vm_state, power_state=power_state, observed_at_us=tx.time_us)


def settled_state(expected: VmState, power_state: PowerState) -> VmState:
    """What a server is whose guest is in a state: ``expected`` where the guest's state says nothing against it."""
    if expected is VmState.ERROR:
        return VmState.ERROR
    vm_state = _VM_STATES[power_state]
    if expected is VmState.SUSPENDED and vm_state is VmState.STOPPED:
        return VmState.SUSPENDED  # a suspended guest is saved to disk and shut off
    return vm_state


def _observe(tx: Transaction, server: Server, power_state: PowerState) -> None:
    workflow = tx.get(tables.WORKFLOWS, server.id)
    if workflow is None:
        take_over(tx, server, power_state)
    elif workflow.kind == "power_server" and workflow.observed != power_state:
        tx.put(tables.WORKFLOWS, msgspec.structs.replace(workflow, observed=power_state))
