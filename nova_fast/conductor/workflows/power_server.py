"""Start, stop, reboot, pause, unpause, suspend or resume a server.

One step: the host's compute daemon does it and says what the guest is now. It is told the whole guest, so that a
start or a hard reboot can make it again after the machine has lost it. Where it ends is what the guest is then, not
what was hoped for. When it fails the server is shown as it was, or as its host has told of it meanwhile, and the
action says why; only a failed hard reboot ends in ERROR, because nobody knows then what is left of the guest.
"""

from __future__ import annotations

import msgspec

from nova_fast.commands.guests import newest_state, settled_state, take_over
from nova_fast.commands.servers import save_server
from nova_fast.commands.workflows import finish_action
from nova_fast.conductor.workflows.recipe import Recipe, Step, compute_of, fault_of, network_of
from nova_fast.model.base import Message
from nova_fast.model.errors import Failure
from nova_fast.model.servers import Server
from nova_fast.model.states import ACTION_RULES, Action, PowerState, VmState
from nova_fast.model.tasks import ApplyNetworks, GuestState, PowerGuest
from nova_fast.model.workflows import Workflow
from nova_fast.queries.guests import guest_of
from nova_fast.queries.host_networks import wanted_networks
from nova_fast.state.reader import Reader
from nova_fast.state.transaction import Transaction

#: Actions that may make the guest again, so its network must be there first.
_REMAKING = frozenset({Action.START, Action.REBOOT, Action.RESUME})


def _network(reader: Reader, server: Server, workflow: Workflow) -> str | None:
    return network_of(reader, server, workflow) if workflow.action in _REMAKING else None


def _wanted_networks(reader: Reader, server: Server, _workflow: Workflow) -> ApplyNetworks:
    return wanted_networks(reader, server.host)


def _power(reader: Reader, server: Server, workflow: Workflow) -> PowerGuest:
    return PowerGuest(guest=guest_of(reader, server), action=Action(workflow.action), hard=workflow.hard)


def _done(tx: Transaction, server: Server, workflow: Workflow, answer: Message) -> Server:
    assert isinstance(answer, GuestState)
    rule = ACTION_RULES[(Action(workflow.action), workflow.hard)]
    now = newest_state(workflow, answer)
    return msgspec.structs.replace(
        server,
        vm_state=settled_state(rule.result, now.power_state),
        task_state=None,
        power_state=now.power_state,
        observed_at_us=tx.time_us,
        observed_sequence=now.sequence,
        fault=None,
    )


def _ended(tx: Transaction, server: Server, workflow: Workflow) -> Server | None:
    finish_action(tx, workflow, server.host)
    return server


def _failed(tx: Transaction, server: Server, workflow: Workflow, failure: Failure) -> Workflow | None:
    finish_action(tx, workflow, server.host, failure)
    if workflow.hard:
        save_server(tx, server, vm_state=VmState.ERROR, task_state=None, fault=fault_of(failure, tx.now_us))
        return None
    server = save_server(tx, server, task_state=None)
    if workflow.observed is not None:
        take_over(tx, server, PowerState(workflow.observed), workflow.observed_sequence)
    return None


POWER_SERVER = Recipe(
    kind="power_server",
    steps=(
        Step(name="network", peer=_network, message=_wanted_networks),
        Step(name="power", peer=compute_of, message=_power, done=_done),
    ),
    ended=_ended,
    failed=_failed,
)
