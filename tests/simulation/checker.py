"""Whether what is kept is right: counted again from the rows, and held against what users were promised.

It reads tables and the users' ledger and knows nothing of how either came about. ``after_commit`` is asked inside every
transaction that changed more than heartbeats; ``timely`` every second; ``settled`` when the faults are over.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from nova_fast.model.events import Event
from nova_fast.model.states import PowerState, VmState
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.transaction import Transaction

from .cloud import Cloud
from .disk import Mood
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


class Violation(Exception):
    """Something that must never be."""


class Checker:
    """All that must hold of one cloud."""

    def __init__(self, cloud: Cloud, ledger: Ledger) -> None:
        self.cloud = cloud
        self.ledger = ledger
        self.found: list[str] = []
        self.checked = 0
        self._dull = {id(cloud.disk.store._databases[name]) for name in _DULL}
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
        servers = {server.id: server for server in tx.scan(tables.SERVERS)}
        ports = list(tx.scan(tables.PORTS))
        self._count(tx, servers, ports)
        self._places(tx, servers, ports)
        self._work(tx, servers)
        self._promises(tx, servers, ports)

    def _count(self, tx: Reader, servers: dict[str, Any], ports: list[Any]) -> None:
        used: Counter[tuple[str, str]] = Counter()
        taken: Counter[tuple[str, str]] = Counter()
        for server in servers.values():
            flavor, project, host = server.flavor, server.project_id, server.host
            used[project, "instances"] += 1
            used[project, "cores"] += flavor.vcpus
            used[project, "ram"] += flavor.ram_mib
            if host:
                taken[host, "servers"] += 1
                taken[host, "vcpus"] += flavor.vcpus
                taken[host, "ram_mib"] += flavor.ram_mib
                taken[host, "disk_gib"] += flavor.disk_gib + flavor.ephemeral_gib + -(-flavor.swap_mib // 1024)
        for port in ports:
            used[port.project_id, "ports"] += 1
        recorded = {row.project_id: row for row in tx.scan(tables.USAGES)}
        for project in {project for project, _ in used} | recorded.keys():
            for name in ("instances", "cores", "ram", "ports"):
                if getattr(recorded.get(project), name, 0) != used[project, name]:
                    self.say(
                        f"project {project} uses {used[project, name]} {name}, recorded is {recorded.get(project)}"
                    )
        usages = {row.host: row for row in tx.scan(tables.HOST_USAGE)}
        for host in {host for host, _ in taken} | usages.keys():
            for name in ("servers", "vcpus", "ram_mib", "disk_gib"):
                if getattr(usages.get(host), name, 0) != taken[host, name]:
                    self.say(f"of {host} are taken {taken[host, name]} {name}, recorded is {usages.get(host)}")

    def _places(self, tx: Reader, servers: dict[str, Any], ports: list[Any]) -> None:
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
        if {row.server_id for row in tx.scan(tables.USER_DATA)} != {s.id for s in servers.values() if s.has_user_data}:
            self.say("user data and servers do not agree")

    def _work(self, tx: Reader, servers: dict[str, Any]) -> None:
        workflows = {row.server_id: row for row in tx.scan(tables.WORKFLOWS)}
        tasks = {row.id: row for row in tx.scan(tables.TASKS)}
        if {workflow.task_id for workflow in workflows.values()} != tasks.keys():
            self.say(f"workflows wait for {[w.task_id for w in workflows.values()]}, asked are {list(tasks)}")
        for server in servers.values():
            busy = server.id in workflows
            if busy != (server.task_state is not None):
                self.say(
                    f"{server.id} shows task {server.task_state}, but {'something' if busy else 'nothing'} is under way"
                )
            if not busy and server.vm_state in (VmState.BUILDING, VmState.DELETED):
                self.say(f"{server.id} is {server.vm_state} and nothing is under way")
            asked = 0
            for action in tx.scan(tables.SERVER_ACTIONS, server.id):
                asked += action.action == "create"
                if action.request_id not in self.ledger.requests:
                    self.say(f"{server.id} has {action.action} {action.request_id}, which nobody asked for")
                if not busy and any(not event.finish_at_us for event in action.events):
                    self.say(f"{server.id} has an action that never ends: {action.action}")
            if asked != 1:
                self.say(f"{server.id} was created {asked} times")
        for server_id in workflows.keys() - servers.keys():
            self.say(f"something is under way with {server_id}, which is gone")

    def _promises(self, tx: Reader, servers: dict[str, Any], ports: list[Any]) -> None:
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
            if server.project_id != creation.project_id:
                self.say(f"{name} changed its owner")
        for name, made in named.items():
            if len(made) > ledger.creations[name].count:
                self.say(f"{name} was made {len(made)} times, {ledger.creations[name].count} were asked for")
        for server_id in ledger.owners:
            if server_id not in servers and server_id not in ledger.delete_asked:
                self.say(f"{server_id} was promised and is lost")
        there = {port.id for port in ports}
        for port_id in ledger.ports:
            if port_id not in there:
                self.say(f"port {port_id} was promised and is lost")
        names = Counter(port.name for port in ports)
        for name, refused in ledger.port_names.items():
            if names[name] > (0 if refused else 1):
                self.say(f"port {name} is there {names[name]} times")

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
            tasks = {task.id: task for task in snapshot.scan(tables.TASKS)}
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
            servers = list(snapshot.scan(tables.SERVERS))
            ports = list(snapshot.scan(tables.PORTS))
            why += [f"{row.kind} of {row.server_id} is at step {row.step}" for row in snapshot.scan(tables.WORKFLOWS)]
            why += [f"the networks of {row.host} are behind" for row in snapshot.scan_index(tables.HOST_NETWORKS_DIRTY)]
            hosts = {row.name: row for row in snapshot.scan(tables.HOSTS)}
            why += [f"{name} is down" for name in cloud.hosts if name not in hosts or not hosts[name].up]
            services = {row.name: row for row in snapshot.scan(tables.SERVICES)}
            why += [f"{name} is down" for name, row in services.items() if not row.up]
            generation = snapshot.generation()
            usages = {row.host: row for row in snapshot.scan(tables.HOST_USAGE)}
        for watcher, position in cloud.positions.items():
            if position != generation:
                why.append(f"{watcher} knows of {position} events of {generation}")
        return why + self._guests(servers) + self._networks(ports) + self._scheduler(hosts, usages)

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

    def _scheduler(self, hosts: dict[str, Any], usages: dict[str, Any]) -> list[str]:
        daemon = self.cloud.programs["scheduler"].daemon
        if daemon is None:
            return ["there is no scheduler"]
        known = {state.host.name: state for state in daemon._scheduler.hosts}
        why = [f"the scheduler waits for the claim of {name}" for name in daemon._scheduler.claims.pending]
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
            for table in (tables.SERVERS, tables.WORKFLOWS, tables.TASKS, tables.USER_DATA, tables.SERVER_ACTIONS):
                count = snapshot.count(table)
                if count:
                    why.append(f"{count} {table.name} are left")
        return why
