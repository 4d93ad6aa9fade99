"""What hosts say of guests, recorded: the conductor calls these, no face does.

While a workflow is at work on a server its answer decides, and what the host says by itself meanwhile is only kept with
the workflow: it counts when the workflow ends without an answer.
"""

from __future__ import annotations

import msgspec

from nova_fast.commands.servers import save_server
from nova_fast.model.servers import Server
from nova_fast.model.states import PowerState, VmState
from nova_fast.model.tasks import GuestChanged, GuestInventory, GuestState, WantedGuests, is_news
from nova_fast.model.workflows import Workflow
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


def record_guest_state(tx: Transaction, message: GuestChanged) -> None:
    """Take over what a host says of a guest by itself, unless something newer is known."""
    server = tx.get(tables.SERVERS, message.server_id)
    if server is None or server.host != message.host or not is_news(message.sequence, server.observed_sequence):
        return
    _observe(tx, server, message.power_state, message.sequence)
    seen = tx.need(tables.SERVERS, server.id, "Instance")
    seen = msgspec.structs.replace(seen, observed_at_us=tx.time_us, observed_sequence=message.sequence)
    tx.put(tables.SERVERS, seen)


def note_stray(tx: Transaction, host_name: str) -> None:
    """A guest may be left on a host that could not be asked to remove it, or did not: it is to compare soon."""
    host = tx.get(tables.HOSTS, host_name)
    if host is not None and not host.strays:
        tx.put(tables.HOSTS, msgspec.structs.replace(host, strays=True))


def record_inventory(tx: Transaction, inventory: GuestInventory, since_us: int) -> WantedGuests:
    """Take over the states of all guests of a host, and say which belong there.

    A server whose guest is missing is stopped, which is what it is; starting it makes the guest again if its disk is
    there. Of a server that its host has told of after it (a spawn that just ended, a guest that just changed) the
    inventory may know less, so it says nothing; ``since_us`` is before it was made, for a host that does not number
    what it says.
    """
    states = {guest.server_id: guest.power_state for guest in inventory.guests}
    servers = list(tx.scan_index(tables.SERVERS_BY_HOST, inventory.host))
    sequence = inventory.sequence
    for server in servers:
        if is_news(sequence, server.observed_sequence) if sequence else server.observed_at_us < since_us:
            _observe(tx, server, states.get(server.id, PowerState.NOSTATE), sequence)
    host = tx.get(tables.HOSTS, inventory.host)
    if host is not None and host.strays:  # from here on it compares by itself until nothing is left
        tx.put(tables.HOSTS, msgspec.structs.replace(host, strays=False))
    return WantedGuests(server_ids=tuple(server.id for server in servers))


def take_over(tx: Transaction, server: Server, power_state: PowerState, sequence: int) -> Server:
    """Show a server as its guest is. One in ERROR stays there: that is for a person to end."""
    vm_state = settled_state(server.vm_state, power_state)
    if vm_state is server.vm_state is VmState.SUSPENDED:
        power_state = server.power_state
    if (vm_state, power_state) == (server.vm_state, server.power_state):
        return server
    changes = {"vm_state": vm_state, "power_state": power_state}
    return save_server(tx, server, **changes, observed_at_us=tx.time_us, observed_sequence=sequence)


def newest_state(workflow: Workflow, answer: GuestState) -> GuestState:
    """The state after an answer; what the host said by itself since counts, as an answer may be lost and sent again."""
    if workflow.observed is None or is_news(answer.sequence, workflow.observed_sequence):
        return answer
    return msgspec.structs.replace(
        answer, power_state=PowerState(workflow.observed), sequence=workflow.observed_sequence
    )


def settled_state(expected: VmState, power_state: PowerState) -> VmState:
    """What a server is whose guest is in a state: ``expected`` where the guest's state says nothing against it."""
    if expected is VmState.ERROR:
        return VmState.ERROR
    vm_state = _VM_STATES[power_state]
    if expected is VmState.SUSPENDED and vm_state is VmState.STOPPED:
        return VmState.SUSPENDED  # a suspended guest is saved to disk and shut off
    return vm_state


def _observe(tx: Transaction, server: Server, power_state: PowerState, sequence: int) -> None:
    workflow = tx.get(tables.WORKFLOWS, server.id)
    if workflow is None:
        take_over(tx, server, power_state, sequence)
    elif workflow.kind != "delete_server" and is_news(sequence, workflow.observed_sequence):
        seen = msgspec.structs.replace(workflow, observed=power_state, observed_sequence=sequence)
        tx.put(tables.WORKFLOWS, seen)
