"""Create a server.

The request has been accepted: the record, its quota and its addresses are there. Then:

1. *schedule*: the scheduler chooses a host and claims it in its table; the claim is recorded with the server's host
   and how the choice came about, and its ports are bound there. Undone by giving back claim and ports.
2. *network*: the host's network daemon puts up what the ports need, before the guest exists. Level-triggered: unbinding
   the ports is what undoes it.
3. *spawn*: the compute daemon makes and starts the guest. Undone by destroying it.

When a host could not do its part the whole is undone and tried on another, a bounded number of times; then the server
is in ERROR with the reason, and holds nothing but its record and its quota.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nova_fast.commands.claims import leave_host, take_host, take_hosts
from nova_fast.commands.decisions import record_decision
from nova_fast.commands.guests import newest_state, settled_state
from nova_fast.commands.hosts import record_build
from nova_fast.commands.ports import activate_ports, bind_ports, release_ports, unbind_ports
from nova_fast.commands.servers import save_server
from nova_fast.commands.workflows import finish_action
from nova_fast.conductor.workflows.recipe import Answered, Recipe, Step, compute_of, fault_of, network_of, showing
from nova_fast.model.base import Message
from nova_fast.model.errors import Conflict, Failure, Kind
from nova_fast.model.events import Released
from nova_fast.model.hosts import Claim
from nova_fast.model.servers import Server
from nova_fast.model.states import PowerState, TaskState, VmState
from nova_fast.model.tasks import ApplyNetworks, DestroyGuest, GuestState, Placement, PlacementRequest, SpawnGuest
from nova_fast.model.workflows import Direction, Workflow
from nova_fast.queries.guests import guest_of
from nova_fast.queries.host_networks import wanted_networks
from nova_fast.queries.server_groups import rule_of
from nova_fast.state.reader import Reader
from nova_fast.state.transaction import Transaction

#: Hosts tried before a server is given up; a lost race for a claim does not count.
MAX_ATTEMPTS = 3
MAX_CLAIM_CONFLICTS = 10


def _scheduler(_reader: Reader, _server: Server, _workflow: Workflow) -> str | None:
    return "scheduler"


def _placement_request(_reader: Reader, server: Server, workflow: Workflow) -> Message:
    raise AssertionError("the dispatcher asks for many placements at once")


def placement_request(reader: Reader, server: Server, workflow: Workflow) -> PlacementRequest:
    """What the scheduler is asked for one server."""
    properties = server.image_properties
    return PlacementRequest(
        server_id=server.id,
        claim=server.wish,
        zone=server.zone,
        architecture=properties.get("hw_architecture") or properties.get("architecture", ""),
        excluded_hosts=workflow.excluded_hosts,
        requested_host=server.requested_host,
        hints=server.scheduler_hints,
        extra_specs=server.flavor.extra_specs,
        image_properties=server.image_properties,
        project_id=server.project_id,
        vcpus=server.flavor.vcpus,
        ram_mib=server.flavor.ram_mib,
        flavor_name=server.flavor.name,
        image_id=server.image_id,
        group=rule_of(reader, server),
    )


def _scheduled(tx: Transaction, server: Server, workflow: Workflow, answer: Message) -> Server:
    assert isinstance(answer, Placement)
    if not answer.host:
        raise Conflict(no_valid_host(answer), code="no_valid_host")
    server = take_host(tx, server, answer.host, answer.claim)
    record_decision(tx, server, answer, workflow.excluded_hosts)
    bind_ports(tx, server.id, answer.host)
    return server


def _scheduled_together(tx: Transaction, answers: Sequence[Answered]) -> list[Server] | None:
    """The same for several; one that cannot be where it was put, or is in a group, is looked at alone."""
    chosen: list[tuple[Server, str, Claim | None]] = []
    for server, _, answer in answers:
        assert isinstance(answer, Placement)
        if not answer.host or server.group_id:
            return None
        chosen.append((server, answer.host, answer.claim))
    servers = take_hosts(tx, chosen)
    for server, (_, workflow, answer) in zip(servers, answers, strict=True):
        assert isinstance(answer, Placement)
        record_decision(tx, server, answer, workflow.excluded_hosts)
        bind_ports(tx, server.id, server.host)
    return servers


def no_valid_host(placement: Placement) -> str:
    """The sentence of a refusal: how many hosts each filter removed, and what would make it fit."""
    removed = "; ".join(
        f"{count.filter} removed {count.before - count.after} of {count.before}"
        for count in placement.filters
        if count.before > count.after
    )
    why = removed or "there are no hosts"
    hint = f" {placement.hint[0].upper()}{placement.hint[1:]}." if placement.hint else ""
    return f"No valid host was found. {why}.{hint}"


def _unschedule(tx: Transaction, server: Server, _workflow: Workflow) -> Server:
    if not server.host:  # chosen, but never recorded: the scheduler is told all the same
        tx.emit(Released(server_id=server.id, host="", claim=server.wish))
        return server
    unbind_ports(tx, server.id)
    return leave_host(tx, server)


def _wanted_networks(reader: Reader, server: Server, _workflow: Workflow) -> ApplyNetworks:
    return wanted_networks(reader, server.host)


def _spawn(reader: Reader, server: Server, workflow: Workflow) -> SpawnGuest:
    return SpawnGuest(guest=guest_of(reader, server, workflow.admin_password))


def _spawned(tx: Transaction, server: Server, workflow: Workflow, answer: Message) -> Server:
    assert isinstance(answer, GuestState)
    now = newest_state(workflow, answer)
    activate_ports(tx, server.id)
    record_build(tx, server.host, done=True)
    return msgspec.structs.replace(
        server,
        vm_state=settled_state(VmState.ACTIVE, now.power_state),
        task_state=None,
        power_state=now.power_state,
        launched_at_us=tx.now_us,
        observed_at_us=tx.time_us,
        observed_sequence=now.sequence,
        fault=None,
    )


def _destroy(_reader: Reader, server: Server, _workflow: Workflow) -> DestroyGuest:
    return DestroyGuest(server_id=server.id, domain_name=server.domain_name)


def _ended(tx: Transaction, server: Server, workflow: Workflow) -> Server | None:
    finish_action(tx, workflow, server.host)
    return server


def _failed(tx: Transaction, server: Server, workflow: Workflow, failure: Failure) -> Workflow | None:
    if workflow.then:
        finish_action(tx, workflow, "", failure)
        return None
    if failed_on := _host_at_fault(failure):
        record_build(tx, failed_on, done=False)
    again = _another_try(workflow, failure)
    if again is not None:
        return again
    release_ports(tx, server.id)
    failure = _whole_story(workflow, failure)
    finish_action(tx, workflow, "", failure)
    save_server(
        tx,
        server,
        vm_state=VmState.ERROR,
        task_state=None,
        power_state=PowerState.NOSTATE,
        fault=fault_of(failure, tx.now_us),
    )
    return None


def _host_at_fault(failure: Failure) -> str:
    """The host that was to build a server and did not; a race that was lost is nobody's fault."""
    return "" if failure.code in ("claim_conflict", "no_valid_host") else failure.details.get("host", "")


def _another_try(workflow: Workflow, failure: Failure) -> Workflow | None:
    """The workflow from its first step without the host that failed, when another host may do better."""
    host = failure.details.get("host", "")
    if failure.code == "no_valid_host" or not host:
        return None
    conflict = failure.code == "claim_conflict"
    attempts = workflow.attempts + (not conflict)
    conflicts = workflow.conflicts + conflict
    if attempts > MAX_ATTEMPTS or conflicts > MAX_CLAIM_CONFLICTS:
        return None
    return msgspec.structs.replace(
        workflow,
        step=0,
        direction=Direction.FORWARD,
        attempts=attempts,
        conflicts=conflicts,
        excluded_hosts=(*workflow.excluded_hosts, host),
        host_failure=workflow.host_failure if conflict else failure,
        failure=None,
        observed=None,
        observed_sequence=0,
    )


def _whole_story(workflow: Workflow, failure: Failure) -> Failure:
    """Why nothing worked: that no host is left says little when one was tried and failed."""
    cause = workflow.host_failure
    if cause is None or failure.code != "no_valid_host":
        return failure
    if cause.kind is Kind.INTERNAL:
        host = cause.details.get("host", "")
        return msgspec.structs.replace(failure, hint=f"Host {host} failed unexpectedly: its log says why.")
    hint = f"No other host could take it: {failure.message}"
    return msgspec.structs.replace(cause, hint=f"{cause.hint} {hint}" if cause.hint else hint)


CREATE_SERVER = Recipe(
    kind="create_server",
    steps=(
        Step(
            name="schedule",
            begin=showing(TaskState.SCHEDULING),
            peer=_scheduler,
            message=_placement_request,
            done=_scheduled,
            done_together=_scheduled_together,
            undo=_unschedule,
        ),
        Step(name="network", begin=showing(TaskState.NETWORKING), peer=network_of, message=_wanted_networks),
        Step(
            name="spawn",
            begin=showing(TaskState.SPAWNING),
            peer=compute_of,
            message=_spawn,
            done=_spawned,
            undo_peer=compute_of,
            undo_message=_destroy,
        ),
    ),
    ended=_ended,
    failed=_failed,
)
