"""Whether what is kept is right: counted again from the rows, and held against what users were promised.

It reads tables and the users' ledger and knows nothing of how either came about. ``after_commit`` is asked inside every
transaction that changed more than heartbeats; ``timely`` every second; ``settled`` when the faults are over.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import msgspec

from nova_fast.model.events import Event
from nova_fast.model.networks import Port
from nova_fast.model.servers import Server, ServerAction
from nova_fast.model.states import PowerState, VmState
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

from .cloud import PINNED, Cloud
from .disk import Mood
from .rows import Rows, records
from .users import Ledger

#: A task may outlive its deadline by so much: the time in which whoever looks for lost ones passes by.
LATE_S = 40.0
_DULL = {"hosts", "hosts_by_uuid", "hosts_by_service_uuid", "hosts_by_number", "services", "services_by_uuid", "meta",
         "done_commands", "done_by_time"}  # fmt: skip
_STATES = {
    PowerState.RUNNING: VmState.ACTIVE,
    PowerState.PAUSED: VmState.PAUSED,
    PowerState.SHUTDOWN: VmState.STOPPED,
    PowerState.CRASHED: VmState.STOPPED,
    PowerState.NOSTATE: VmState.STOPPED,
    PowerState.SUSPENDED: VmState.SUSPENDED,
}


_COUNTED = ("instances", "cores", "ram", "ports")  # of a project
_TAKEN = ("servers", "vcpus", "ram_mib", "disk_gib")  # of a host


class _Action(msgspec.Struct):
    """What matters of a server's action."""

    server_id: str
    action: str
    request_id: str
    ended: bool


def _action(record: ServerAction) -> _Action:
    ended = all(event.finish_at_us for event in record.events)
    return _Action(record.server_id, record.action, record.request_id, ended)


class Checker:
    """All that must hold of one cloud."""

    def __init__(self, cloud: Cloud, ledger: Ledger) -> None:
        self.cloud = cloud
        self.ledger = ledger
        self.found: list[str] = []
        self.checked = 0
        self._dull = {id(cloud.disk.store._databases[name]) for name in _DULL}
        self._servers, self._ports = records(tables.SERVERS), records(tables.PORTS)
        self._hosts, self._aggregates = records(tables.HOSTS), records(tables.AGGREGATES)
        self._groups = records(tables.SERVER_GROUPS)
        self._usages, self._host_usage = records(tables.USAGES), records(tables.HOST_USAGE)
        self._workflows, self._tasks = records(tables.WORKFLOWS), records(tables.TASKS)
        self._actions, self._user_data = Rows(tables.SERVER_ACTIONS, _action), records(tables.USER_DATA)
        self._task_since: dict[str, tuple[float, float]] = {}  # task → (first seen, idle time until then)
        self._unable_s = 0.0
        cloud.disk.on_commit = self.after_commit
        cloud.on_event = self._event
        cloud.on_gap = lambda name: self.say(f"{name} missed events")

    def say(self, what: str) -> None:
        """Note a violation."""
        self.found.append(f"{self.cloud.loop.time():.4f}: {what}")

    # ------------------------------------------------------------------ after every commit
    def after_commit(self, tx: Transaction) -> None:
        """Recount, unless only heartbeats were written."""
        if all(id(database) in self._dull for database, _, _ in tx._journal):
            return
        self.checked += 1
        servers = {server.id: server for server in self._servers.read(tx)}
        ports = self._ports.read(tx)
        self._count(tx, servers, ports)
        self._places(tx, servers, ports)
        self._company(tx, servers)
        self._work(tx, servers)
        self._promises(servers, ports)

    def _count(self, tx: Transaction, servers: dict[str, Server], ports: list[Port]) -> None:
        used: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        taken: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        cpus: defaultdict[str, list[int]] = defaultdict(list)  # of a host, that servers have for themselves
        for server in servers.values():
            flavor = server.flavor
            mine = used[server.project_id]
            mine[0] += 1
            mine[1] += flavor.vcpus
            mine[2] += flavor.ram_mib
            if server.host:
                there = taken[server.host]
                there[0] += 1
                there[1] += 0 if flavor.id == PINNED else flavor.vcpus
                cpus[server.host] += self._own_cpus(server)
                there[2] += flavor.ram_mib
                there[3] += flavor.disk_gib + flavor.ephemeral_gib + -(-flavor.swap_mib // 1024)
        for port in ports:
            used[port.project_id][3] += 1
        recorded = {row.project_id: row for row in self._usages.read(tx)}
        for project in sorted(used.keys() | recorded.keys()):
            self._compare(f"project {project} uses", _COUNTED, used[project], recorded.get(project))
        usages = {row.host: row for row in self._host_usage.read(tx)}
        for host in sorted(taken.keys() | usages.keys()):
            self._compare(f"of {host} are taken", _TAKEN, taken[host], usages.get(host))
            counted = [cpu for cell in usages[host].cells for cpu in cell.cpus] if host in usages else []
            if sorted(cpus[host]) != sorted(set(cpus[host])) or sorted(cpus[host]) != counted:
                self.say(f"of {host} servers have the CPUs {sorted(cpus[host])}, recorded are {counted}")

    def _own_cpus(self, server: Server) -> list[int]:
        topology = server.claim.topology
        own = [cpu for cell in topology.cells for cpu in cell.cpus] if topology is not None else []
        if len(own) != (server.flavor.vcpus if server.flavor.id == PINNED else 0):
            self.say(f"server {server.id} has the CPUs {own}")
        return own

    def _compare(self, whose: str, names: tuple[str, ...], counted: list[int], row: Any) -> None:
        for name, count in zip(names, counted, strict=True):
            if getattr(row, name, 0) != count:
                self.say(f"{whose} {count} {name}, recorded is {row}")

    def _places(self, tx: Transaction, servers: dict[str, Server], ports: list[Port]) -> None:
        addresses: set[tuple[str, str]] = set()
        for port in ports:
            for ip in port.fixed_ips:
                if (port.network_id, ip.ip_address) in addresses:
                    self.say(f"{ip.ip_address} is given twice")
                addresses.add((port.network_id, ip.ip_address))
            owner = servers.get(port.device_id)
            if port.device_id and owner is None:
                self.say(f"port {port.id} belongs to server {port.device_id}, which is gone")
            if port.host and (owner is None or owner.host != port.host):
                self.say(f"port {port.id} is bound to {port.host}, its server is on {owner.host if owner else None}")
            if owner is not None and owner.host and not port.host and owner.task_state is None:
                self.say(f"port {port.id} of {owner.id} on {owner.host} is bound nowhere")
        with_data = {server.id for server in servers.values() if server.has_user_data}
        if {row.server_id for row in self._user_data.read(tx)} != with_data:
            self.say("user data and servers do not agree")

    def _company(self, tx: Transaction, servers: dict[str, Server]) -> None:
        """Servers are in the zone that was asked for and keep their group's rule; a host's zone is its aggregates'."""
        hosts = {host.name: host for host in self._hosts.read(tx)}
        zones: defaultdict[str, set[str]] = defaultdict(set)
        aggregates, groups = self._aggregates.read(tx), self._groups.read(tx)
        for number in sorted(self.ledger.aggregates.keys() - {aggregate.number for aggregate in aggregates}):
            self.say(f"aggregate {number} was promised and is lost")
        for group_id in sorted(self.ledger.groups.keys() - {group.id for group in groups}):
            self.say(f"server group {group_id} was promised and is lost")
        for aggregate in aggregates:
            for name in aggregate.hosts:
                if name not in hosts:
                    self.say(f"aggregate {aggregate.number} has the host {name}, which is gone")
                if aggregate.metadata.get("availability_zone"):
                    zones[name].add(aggregate.metadata["availability_zone"])
        for name, host in hosts.items():
            if (zones[name] or {"nova"}) != {host.zone}:
                self.say(f"{name} is in zone {host.zone}, its aggregates say {sorted(zones[name])}")
        there: defaultdict[str, list[str]] = defaultdict(list)  # by group: a host for each member
        for server in servers.values():
            if server.host and server.zone not in ("", hosts[server.host].zone):
                self.say(f"{server.id} asked for zone {server.zone} and is on {server.host}")
            if server.host and server.group_id:
                there[server.group_id].append(server.host)
        for group in groups:
            counts = Counter(there[group.id])
            if group.policy == "affinity" and len(counts) > 1:
                self.say(f"the servers of group {group.id} are to be together and are on {dict(counts)}")
            if group.policy == "anti-affinity" and max(counts.values(), default=0) > group.max_servers_per_host:
                self.say(f"of group {group.id} {group.max_servers_per_host} may be on a host, there are {dict(counts)}")

    def _work(self, tx: Transaction, servers: dict[str, Server]) -> None:
        workflows = {row.server_id: row for row in self._workflows.read(tx)}
        tasks = {row.id: row for row in self._tasks.read(tx)}
        begun = [workflow for workflow in workflows.values() if not workflow.queued or workflow.task_id]
        if {workflow.task_id for workflow in begun} != tasks.keys():
            self.say(f"workflows wait for {[w.task_id for w in workflows.values()]}, asked are {list(tasks)}")
        for server in servers.values():
            busy = server.id in workflows
            if busy != (server.task_state is not None):
                self.say(
                    f"{server.id} shows task {server.task_state}, but {'something' if busy else 'nothing'} is under way"
                )
            if not busy and server.vm_state in (VmState.BUILDING, VmState.DELETED):
                self.say(f"{server.id} is {server.vm_state} and nothing is under way")
        creations = dict.fromkeys(servers, 0)
        for action in self._actions.read(tx):
            server_id = action.server_id
            if server_id not in servers:
                continue
            creations[server_id] += action.action == "create"
            if action.request_id not in self.ledger.requests:
                self.say(f"{server_id} has {action.action} {action.request_id}, which nobody asked for")
            if not action.ended and server_id not in workflows:
                self.say(f"{server_id} has an action that never ends: {action.action}")
        for server_id, count in creations.items():
            if count != 1:
                self.say(f"{server_id} was created {count} times")
        for server_id in workflows.keys() - servers.keys():
            self.say(f"something is under way with {server_id}, which is gone")

    def _promises(self, servers: dict[str, Server], ports: list[Port]) -> None:
        ledger = self.ledger
        named: defaultdict[str, list[Any]] = defaultdict(list)
        for server in servers.values():
            name = server.name
            creation = ledger.creations.get(name) or ledger.creations.get(name.rpartition("-")[0])
            if creation is None:
                self.say(f"nobody asked for a server {name}")
                continue
            named[creation.name].append(server)
            if creation.refused:
                self.say(f"{name} was refused and is there")
            if creation.ids is not None and server.id not in creation.ids:
                self.say(f"{name} was made twice: {server.id} is not among {creation.ids}")
            if (server.project_id, server.zone) != (creation.project_id, creation.zone):
                self.say(f"{name} changed its owner or its zone")
            if server.group_id != creation.group_id and (server.group_id or creation.group_id in ledger.groups):
                self.say(f"{name} is in group {server.group_id}, not in {creation.group_id}")
        for name, made in named.items():
            if len(made) > ledger.creations[name].count:
                self.say(f"{name} was made {len(made)} times, {ledger.creations[name].count} were asked for")
        for server_id in sorted(ledger.owners.keys() - servers.keys() - ledger.delete_asked):
            self.say(f"{server_id} was promised and is lost")
        for port_id in sorted(ledger.ports.keys() - {port.id for port in ports}):
            self.say(f"port {port_id} was promised and is lost")
        for name, count in Counter([port.name for port in ports]).items():
            if count > (0 if ledger.port_names.get(name) else 1) and name in ledger.port_names:
                self.say(f"port {name} is there {count} times")

    # ------------------------------------------------------------------ events
    def _event(self, watcher: str, generation: int, _event: Event) -> None:
        expected = self.cloud.positions[watcher] + 1
        if generation != expected:
            self.say(f"{watcher} got event {generation} and should have got {expected}")
        self.cloud.positions[watcher] = generation

    # ------------------------------------------------------------------ every second
    def timely(self) -> None:
        """No task lives beyond its deadline, as long as somebody could do something about it."""
        cloud = self.cloud
        conductor = cloud.programs["conductor"]
        able = conductor.alive and conductor.process is not None and not conductor.process.stopped
        if not able or cloud.disk.mood in (Mood.SLOW, Mood.FULL):
            self._unable_s += 1
        now_s, limit_s = cloud.loop.time(), cloud.config.conductor.task_timeout_s + LATE_S
        with cloud.disk.store.snapshot() as snapshot:
            tasks = {task.id: task for task in self._tasks.read(snapshot)}
        self._task_since = {task_id: self._task_since.get(task_id, (now_s, self._unable_s)) for task_id in tasks}
        for task_id, (since_s, unable_s) in self._task_since.items():
            if now_s - since_s - (self._unable_s - unable_s) * 2 > limit_s:
                task = tasks[task_id]
                self.say(f"{task.step} of {task.server_id} is asked of {task.peer} since {now_s - since_s:.0f} s")

    # ------------------------------------------------------------------ at the end
    def unsettled(self) -> list[str]:
        """Why the cloud is not at rest yet; empty when it is, and everything is where it belongs."""
        cloud, why = self.cloud, []
        with cloud.disk.store.snapshot() as snapshot:
            servers, ports = self._servers.read(snapshot), self._ports.read(snapshot)
            why += [f"{row.kind} of {row.server_id} is at step {row.step}" for row in self._workflows.read(snapshot)]
            why += [f"the networks of {row.host} are behind" for row in snapshot.scan_index(tables.HOST_NETWORKS_DIRTY)]
            hosts = {row.name: row for row in snapshot.scan(tables.HOSTS)}
            why += [f"{name} is down" for name in cloud.hosts if name not in hosts or not hosts[name].up]
            services = {row.name: row for row in snapshot.scan(tables.SERVICES)}
            why += [f"{name} is down" for name, row in services.items() if not row.up]
            generation = snapshot.generation()
            usages = {row.host: row for row in self._host_usage.read(snapshot)}
            groups = {row.id: Counter[str]() for row in self._groups.read(snapshot)}
        for watcher, position in cloud.positions.items():
            if position != generation:
                why.append(f"{watcher} knows of {position} events of {generation}")
        for server in servers:
            if server.group_id in groups and server.host:
                groups[server.group_id][server.host] += 1
        return why + self._guests(servers) + self._networks(ports) + self._scheduler(hosts, usages, groups)

    def _guests(self, servers: list[Any]) -> list[str]:
        why = []
        by_host: dict[str, dict[str, Any]] = {host: {} for host in self.cloud.hosts}
        for server in servers:
            if server.host:
                by_host[server.host][server.id] = server
            if server.id in self.ledger.delete_promised:
                why.append(f"{server.id} was to be deleted and is {server.vm_state}")
            if server.id in self.ledger.labelled and server.metadata.get("label") not in self.ledger.labels[server.id]:
                why.append(f"the label of {server.id} is {server.metadata.get('label')}, which nobody gave it")
        for host, hypervisor in self.cloud.hypervisors.items():
            for server_id in {*hypervisor.guests, *hypervisor.disks} - by_host[host].keys():
                why.append(f"{host} has {server_id}, which does not belong there")
            for server in by_host[host].values():
                state = hypervisor.state(server.id)
                if server.vm_state is VmState.ERROR:
                    continue
                expected = _STATES[state]
                if server.vm_state is VmState.SUSPENDED and expected is VmState.STOPPED:
                    expected = VmState.SUSPENDED
                if server.vm_state is not expected:
                    why.append(f"{server.id} is shown {server.vm_state}, its guest is {state.name}")
        return why

    def _networks(self, ports: list[Any]) -> list[str]:
        why = []
        for host, plane in self.cloud.planes.items():
            bound = {port.id for port in ports if port.host == host}
            if bound != plane.ports.keys():
                why.append(f"{host} has the ports {sorted(plane.ports)}, bound there are {sorted(bound)}")
        return why

    def _scheduler(self, hosts: dict[str, Any], usages: dict[str, Any], groups: dict[str, Counter[str]]) -> list[str]:
        daemon = self.cloud.programs["scheduler"].daemon
        if daemon is None:
            return ["there is no scheduler"]
        known = {state.host.name: state for state in daemon._scheduler.hosts}
        why = [f"the scheduler waits for the claim of {name}" for name in daemon._scheduler.claims.pending]
        for group_id, counted in groups.items():
            members = {host: count for host, count in daemon._scheduler.claims.members(group_id).items() if count}
            if members != counted:
                why.append(f"the scheduler knows {members} of group {group_id}, there are {dict(counted)}")
        if known.keys() != hosts.keys():
            return [*why, f"the scheduler knows the hosts {sorted(known)}, there are {sorted(hosts)}"]
        for name, state in known.items():
            counted = (state.vcpus, state.ram_mib, state.disk_gib, state.servers)
            usage = usages[name]
            if counted != (usage.vcpus, usage.ram_mib, usage.disk_gib, usage.servers):
                why.append(f"the scheduler counts {counted} of {name}, recorded is {usage}")
        return why

    def empty(self) -> list[str]:
        """What is left of a cloud whose every server was deleted."""
        why = [
            f"{host} has {sorted(h.guests)} {sorted(h.disks)}"
            for host, h in self.cloud.hypervisors.items()
            if h.guests or h.disks
        ]
        with self.cloud.disk.store.snapshot() as snapshot:
            of_servers = (tables.USER_DATA, tables.SERVER_ACTIONS, tables.PLACEMENT_DECISIONS)
            for table in (tables.SERVERS, tables.WORKFLOWS, tables.TASKS, *of_servers):
                count = snapshot.count(table)
                if count:
                    why.append(f"{count} {table.name} are left")
        return why
