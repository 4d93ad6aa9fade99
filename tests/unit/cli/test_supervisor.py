"""The supervisor with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from nova_fast.cli import processes, programs, supervisor
from nova_fast.cli.programs import Program
from nova_fast.cli.supervisor import Policy, Setting

DEADLINE_S = 60.0
T = TypeVar("T")
RUN = """
import sys, msgspec
from pathlib import Path
from typing import TypeVar
from nova_fast.cli.supervisor import Setting, Supervisor
sys.exit(Supervisor(msgspec.json.decode(sys.stdin.buffer.read(), type=Setting, dec_hook=lambda t, v: t(v))).run())
"""
QUICK = Policy(first_delay_s=0.05, delay_max_s=0.4, forgiven_after_s=30, stop_deadline_s=1.0)


def wait_for(what: Callable[[], T]) -> T:
    deadline = time.monotonic() + DEADLINE_S
    while not (value := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return value


class Host:
    """Starts supervisors of one folder and ends whatever is left of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []

    def setting(self, *members: Program, policy: Policy = QUICK, subreaper: bool = False) -> Setting:
        return Setting("test", self.folder / "run", self.folder / "log", list(members), subreaper, policy)

    def start(self, setting: Setting) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN],
            stdin=subprocess.PIPE,
            stderr=(self.folder / "supervisor.log").open("ab"),
            env=programs.own_environment(),
        )
        self.started.append(process)
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(setting, enc_hook=str))
        process.stdin.close()
        return process

    def log(self) -> str:
        return (self.folder / "supervisor.log").read_text()

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()
        supervisor.stop_leftovers(self.setting())


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    host.close()


def sleeper(name: str, group: int = 0) -> Program:
    return Program(name, ("sleep", "1000"), group)


def shell(name: str, script: str, group: int = 0) -> Program:
    return Program(name, ("sh", "-c", script), group)


def up(setting: Setting) -> dict[str, supervisor.ProgramStatus]:
    """The programs by name, once all run."""

    def all_up() -> dict[str, supervisor.ProgramStatus]:
        status = supervisor.read_status(setting)
        found = status.programs if status else []
        return {member.name: member for member in found} if found and all(member.is_up for member in found) else {}

    return wait_for(all_up)


def pid_of(status: supervisor.ProgramStatus) -> int:
    assert status.identity is not None
    return status.identity.pid


def test_programs_start_and_sigterm_stops_them_and_leaves_no_file(host: Host) -> None:
    setting = host.setting(sleeper("a"), sleeper("b", 1))
    process = host.start(setting)
    members = up(setting)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == 0
    assert not any(member.is_up for member in members.values())
    assert {path.name for path in setting.run_path.rglob("*") if path.is_file()} == {"test.lock"}


def test_a_killed_program_is_started_again_and_the_reason_is_logged_once(host: Host) -> None:
    setting = host.setting(sleeper("a"))
    host.start(setting)
    first = up(setting)["a"]
    os.kill(pid_of(first), signal.SIGKILL)
    second = wait_for(lambda: next((m for m in up(setting).values() if m.identity != first.identity), None))
    assert (second.restarts, second.last_exit) == (1, "killed by SIGKILL")
    assert host.log().count(f"a: pid {pid_of(first)} killed by SIGKILL; next start in 0.05 s") == 1


def test_back_off_doubles_up_to_its_limit(host: Host) -> None:
    setting = host.setting(shell("a", "exit 3"))
    host.start(setting)
    wait_for(lambda: host.log().count("exited with code 3") >= 6)
    delays = [line.rsplit(" ", 2)[1] for line in host.log().splitlines() if "exited" in line]
    assert delays[:6] == ["0.05", "0.1", "0.2", "0.4", "0.4", "0.4"]


def test_a_long_life_is_forgiven(host: Host) -> None:
    setting = host.setting(shell("a", "sleep 0.4; exit 1"), policy=msgspec.structs.replace(QUICK, forgiven_after_s=0.3))
    host.start(setting)
    wait_for(lambda: host.log().count("exited with code 1") >= 3)
    assert "next start in 0.1 s" not in host.log()


def test_a_program_that_does_not_exist_is_reported_in_its_log(host: Host) -> None:
    setting = host.setting(Program("a", ("/no/such/program",), 0))
    host.start(setting)
    wait_for(lambda: "exited with code 127" in host.log())
    assert "cannot start /no/such/program: [Errno 2]" in (setting.log_path / "a.log").read_text()


def test_output_goes_to_the_log_of_the_program(host: Host) -> None:
    setting = host.setting(shell("a", "echo out; echo err >&2; exec sleep 1000"))
    host.start(setting)
    wait_for(lambda: (setting.log_path / "a.log").exists() and "err" in (setting.log_path / "a.log").read_text())
    assert (setting.log_path / "a.log").read_text() == "out\nerr\n"


def test_groups_stop_in_reverse_order(host: Host) -> None:
    tracer = (
        "import signal, sys, time\nsignal.signal(15, lambda *a: (print(sys.argv[1], time.monotonic_ns()), sys.exit()))"
    )
    wait = "print('ready', flush=True)\nwhile True: signal.pause()"
    members = [Program(n, (sys.executable, "-c", f"{tracer}\n{wait}", n), g) for n, g in (("a", 0), ("b", 1), ("c", 2))]
    setting = host.setting(*members, policy=msgspec.structs.replace(QUICK, stop_deadline_s=DEADLINE_S))
    process = host.start(setting)
    logs = {name: setting.log_path / f"{name}.log" for name in "abc"}
    wait_for(lambda: all(path.exists() and "ready" in path.read_text() for path in logs.values()))
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == 0
    stopped_at = {name: int(path.read_text().split()[-1]) for name, path in logs.items()}
    assert stopped_at["c"] < stopped_at["b"] < stopped_at["a"]


def test_a_program_deaf_to_sigterm_is_killed_after_the_deadline(host: Host) -> None:
    setting = host.setting(shell("a", "trap '' TERM; echo deaf; while :; do sleep 0.2; done"))
    process = host.start(setting)
    member = up(setting)["a"]
    log = setting.log_path / "a.log"
    wait_for(lambda: log.exists() and "deaf" in log.read_text())
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == 0
    assert not member.is_up
    assert "did not stop within 1 s: killed" in host.log()


def test_programs_survive_kill_9_of_the_supervisor_and_the_next_one_replaces_them(host: Host) -> None:
    setting = host.setting(sleeper("a"), sleeper("b", 1))
    first = host.start(setting)
    before = up(setting)
    wait_for(lambda: len(supervisor.leftovers(setting)) == 2)  # each has written down who it is, before it is a program
    first.kill()
    first.wait()
    assert all(member.is_up for member in before.values())
    assert supervisor.leftovers(setting) == {name: member.identity for name, member in before.items()}
    second = host.start(setting)
    wait_for(lambda: (s := supervisor.read_status(setting)) and s.supervisor.pid == second.pid)
    after = up(setting)
    assert not any(member.is_up for member in before.values())
    assert {member.identity for member in before.values()}.isdisjoint({member.identity for member in after.values()})


def test_a_supervisor_that_adopts_goes_on_with_what_it_finds_and_brings_it_back(host: Host) -> None:
    setting = msgspec.structs.replace(host.setting(sleeper("a"), sleeper("b", 1)), adopts=True)
    first = host.start(setting)
    before = up(setting)
    wait_for(lambda: len(supervisor.leftovers(setting)) == 2)
    first.kill()
    first.wait()
    os.kill(pid_of(before["b"]), signal.SIGKILL)
    second = host.start(setting)
    wait_for(lambda: (s := supervisor.read_status(setting)) and s.supervisor.pid == second.pid)
    after = up(setting)
    assert after["a"].identity == before["a"].identity
    assert after["b"].identity != before["b"].identity
    os.kill(pid_of(after["a"]), signal.SIGKILL)
    wait_for(lambda: up(setting)["a"].identity not in (None, after["a"].identity))
    assert up(setting)["a"].restarts == 1
    second.send_signal(signal.SIGTERM)
    assert second.wait(DEADLINE_S) == 0
    assert supervisor.leftovers(setting) == {}


def test_a_second_supervisor_gives_way(host: Host) -> None:
    setting = host.setting(sleeper("a"))
    host.start(setting)
    member = up(setting)["a"]
    assert host.start(setting).wait(DEADLINE_S) == supervisor.EXIT_ALREADY_RUNNING
    assert member.is_up


def test_a_pid_that_was_given_to_somebody_else_is_not_touched(host: Host) -> None:
    setting = host.setting()
    bystander = subprocess.Popen(["sleep", "1000"])
    try:
        identity = processes.identify(bystander.pid)
        assert identity is not None
        path = setting.program_pid_path("a")
        path.parent.mkdir(parents=True)
        processes.write_pid_file(path, msgspec.structs.replace(identity, started_ticks=identity.started_ticks - 1))
        assert supervisor.stop_leftovers(setting) == []
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_orphans_come_to_a_subreaper_and_leave_no_zombie(host: Host) -> None:
    script = "(sh -c 'echo $$; exec sleep 300' &) ; exec sleep 1000"
    setting = host.setting(shell("a", script), subreaper=True)
    process = host.start(setting)
    text = wait_for(lambda: (p := setting.log_path / "a.log").exists() and p.read_text())
    orphan = int(text)
    wait_for(lambda: parent_of(orphan) == process.pid)
    os.kill(orphan, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{orphan}").exists())


def parent_of(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except FileNotFoundError:
        return None


def test_a_log_that_grew_too_long_is_moved_aside(host: Host) -> None:
    policy = msgspec.structs.replace(QUICK, log_bytes_max=1000, housekeeping_s=0.1)
    go_on = host.folder / "go-on"
    script = f"seq 1000; until [ -e {go_on} ]; do sleep 0.05; done; echo later; exec sleep 1000"
    setting = host.setting(shell("a", script), policy=policy)
    host.start(setting)
    path = setting.log_path / "a.log"
    wait_for(lambda: path.with_suffix(".log.1").exists() and path.exists() and not path.stat().st_size)
    go_on.touch()
    wait_for(lambda: path.exists() and path.read_text() == "later\n")
    assert path.with_suffix(".log.1").read_text().endswith("1000\n")
