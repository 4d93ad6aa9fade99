"""Delete a server.

1. *destroy*: its host removes every trace of the guest. A host that is down or cannot do it now is not waited for: it
   compares what it has with what is wanted until the guest is gone.
2. *release*: its ports, its claim, its quota and its records go, in one transaction.

There is no way back, and no way to fail: what was accepted is done.
"""

from __future__ import annotations

from nova_fast.commands import usage
from nova_fast.commands.claims import leave_host
from nova_fast.commands.decisions import forget_decision
from nova_fast.commands.ports import release_ports
from nova_fast.commands.servers import save_server
from nova_fast.commands.workflows import finish_action
from nova_fast.conductor.workflows.recipe import Recipe, Step, compute_of, fault_of
from nova_fast.model.errors import Failure
from nova_fast.model.events import ServerChanged
from nova_fast.model.servers import Server
from nova_fast.model.states import VmState, api_status
from nova_fast.model.tasks import DestroyGuest
from nova_fast.model.workflows import Workflow
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.transaction import Transaction


def _destroy(_reader: Reader, server: Server, _workflow: Workflow) -> DestroyGuest:
    return DestroyGuest(server_id=server.id, domain_name=server.domain_name)


def _release(tx: Transaction, server: Server, _workflow: Workflow) -> Server:
    release_ports(tx, server.id)
    server = leave_host(tx, server)
    usage.give_back(tx, server.project_id, instances=1, cores=server.flavor.vcpus, ram=server.flavor.ram_mib)
    return server


def _ended(tx: Transaction, server: Server, _workflow: Workflow) -> Server | None:
    if server.has_user_data:
        tx.delete(tables.USER_DATA, server.id)
    for action in list(tx.scan(tables.SERVER_ACTIONS, server.id)):
        tx.delete(tables.SERVER_ACTIONS, (action.server_id, action.request_id))
    forget_decision(tx, server.id)
    tx.delete(tables.SERVERS, server.id)
    tx.emit(
        ServerChanged(
            server_id=server.id,
            project_id=server.project_id,
            status=api_status(VmState.DELETED, None),
            task_state=None,
            host="",
        )
    )
    return None


def _failed(tx: Transaction, server: Server, workflow: Workflow, failure: Failure) -> Workflow | None:
    finish_action(tx, workflow, server.host, failure)
    save_server(tx, server, vm_state=VmState.ERROR, task_state=None, fault=fault_of(failure, tx.now_us))
    return None


DELETE_SERVER = Recipe(
    kind="delete_server",
    steps=(
        Step(name="destroy", peer=compute_of, message=_destroy, host_finds_out=True),
        Step(name="release", finish=_release),
    ),
    ended=_ended,
    failed=_failed,
)
