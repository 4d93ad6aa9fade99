"""One small process that keeps others running.

It starts its programs group by group, starts again those that die (0.2 s later, then twice as late each time up to
10 s; a life of 30 s is forgiven) and says why they died. SIGTERM stops them in reverse order, each group within a
deadline. It has one thread and no event loop: it sleeps in ``sigtimedwait`` until a child ends, a signal comes or a
start is due.

Its programs survive ``kill -9`` of the supervisor, on purpose: the cloud goes on serving. Each of them has written its
own pid file before it became the program, so the next supervisor (or ``nova-fast down``) finds all of them and ends
them first, or adopts them where that is what the setting says. The reasons are in ``docs/decisions/supervisor.md``.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

import msgspec

from nova_fast.cli import processes
from nova_fast.cli.processes import ProcessIdentity
from nova_fast.cli.programs import Program
from nova_fast.files import write_atomically

EXIT_ALREADY_RUNNING = 75  # EX_TEMPFAIL of sysexits.h
_PR_SET_CHILD_SUBREAPER = 36
_WAKING = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


class Policy(msgspec.Struct, frozen=True):
    """How patient a supervisor is."""

    first_delay_s: float = 0.2
    delay_max_s: float = 10.0
    forgiven_after_s: float = 30.0  # a program that lived so long starts again at once
    stop_deadline_s: float = 10.0  # for one group
    log_bytes_max: int = 64 << 20  # a log above it is moved to .1
    housekeeping_s: float = 60.0
    status_again_s: float = 1.0  # when the status file could not be written
    look_s: float = 0.5  # how often to look at programs that were adopted: nobody tells of their end


class Setting(msgspec.Struct, frozen=True):
    """What to supervise and where to keep the books."""

    name: str  # of the pid, lock and status files
    run_path: Path
    log_path: Path
    programs: list[Program]
    subreaper: bool = False  # reap orphans (QEMU) in place of PID 1
    policy: Policy = Policy()
    adopts: bool = False  # go on with what an earlier supervisor left, in place of ending it

    @property
    def pid_path(self) -> Path:
        return self.run_path / f"{self.name}.pid"

    @property
    def status_path(self) -> Path:
        return self.run_path / f"{self.name}.json"

    def program_pid_path(self, program_name: str) -> Path:
        return self.run_path / f"{self.name}.d" / f"{program_name}.pid"


class ProgramStatus(msgspec.Struct, frozen=True):
    """One line of the status file."""

    name: str
    identity: ProcessIdentity | None
    started_at_s: float | None  # Unix time
    restarts: int
    last_exit: str  # "" = has not ended yet

    @property
    def is_up(self) -> bool:
        return processes.is_alive(self.identity)


class Status(msgspec.Struct, frozen=True):
    """The status file: rewritten whenever something changes."""

    supervisor: ProcessIdentity
    started_at_s: float
    programs: list[ProgramStatus]


def read_status(setting: Setting) -> Status | None:
    """What the supervisor wrote last; ``None`` when there is nothing to read."""
    try:
        return msgspec.json.decode(setting.status_path.read_bytes(), type=Status)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def leftovers(setting: Setting) -> dict[str, ProcessIdentity]:
    """Programs of an earlier supervisor that still run, by name."""
    folder = setting.program_pid_path("x").parent
    found = {path.stem: processes.running(path) for path in sorted(folder.glob("*.pid"))}
    return {name: identity for name, identity in found.items() if identity is not None}


def stop_leftovers(setting: Setting) -> list[str]:
    """End what an earlier supervisor left behind; returns the names. Only for who knows that no supervisor runs."""
    assert processes.running(setting.pid_path) in (None, processes.identify(os.getpid()))
    found = leftovers(setting)
    processes.stop(list(found.values()), setting.policy.stop_deadline_s)
    for path in setting.program_pid_path("x").parent.glob("*.pid"):
        path.unlink(missing_ok=True)
    return sorted(found)


def describe_exit(wait_status: int) -> str:
    """Why a process ended, in words."""
    code = os.waitstatus_to_exitcode(wait_status)
    return f"exited with code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


class _Child:
    """A program and its present life."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.identity: ProcessIdentity | None = None
        self.started_at_s: float | None = None
        self.started_mono_s = 0.0
        self.due_mono_s = 0.0  # when to start it, while it does not run
        self.delay_s = 0.0
        self.restarts = 0
        self.last_exit = ""
        self.adopted = False  # somebody else's child

    def ended(self, why: str, now_s: float, policy: Policy) -> None:
        """Note the end of a life and decide when the next begins."""
        if now_s - self.started_mono_s >= policy.forgiven_after_s:
            self.delay_s = 0.0
        self.delay_s = min(max(self.delay_s * 2, policy.first_delay_s), policy.delay_max_s)
        self.identity = None
        self.adopted = False
        self.last_exit = why
        self.due_mono_s = now_s + self.delay_s

    def status(self) -> ProgramStatus:
        return ProgramStatus(self.program.name, self.identity, self.started_at_s, self.restarts, self.last_exit)


class Supervisor:
    """Keeps the programs of one setting running until SIGTERM."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._policy = setting.policy
        self._children = [_Child(program) for program in sorted(setting.programs, key=lambda program: program.group)]
        self._started_at_s = time.time()
        self._pid = os.getpid()
        self._old_mask: set[int] = set()
        self._stopping = False
        self._status_due = False  # it could not be written the last time

    def run(self) -> int:
        """Supervise until SIGTERM or SIGINT; returns the exit code."""
        setting = self._setting
        for folder in (setting.run_path, setting.log_path, setting.program_pid_path("x").parent):
            folder.mkdir(parents=True, exist_ok=True)
        lock = self._lock()
        if lock is None:
            log(setting.name, "another supervisor runs here")
            return EXIT_ALREADY_RUNNING
        if setting.adopts:
            self._adopt()
        else:
            for name in stop_leftovers(setting):
                log(name, "was left by an earlier supervisor: stopped")
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would hide every end
        self._old_mask = {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, _WAKING)}
        try:
            processes.write_pid_file(setting.pid_path, processes.own_identity())
            if setting.subreaper:
                _become_subreaper()
            self._loop()
            self._stop()
        finally:
            setting.status_path.unlink(missing_ok=True)
            setting.pid_path.unlink(missing_ok=True)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._old_mask)
            os.close(lock)
        return 0

    def _lock(self) -> int | None:
        # SAFETY: a POSIX lock belongs to this process alone; a child between fork and exec does not hold it.
        descriptor = os.open(self._setting.run_path / f"{self._setting.name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def _adopt(self) -> None:
        found = leftovers(self._setting)
        for child in self._children:
            child.identity = found.get(child.program.name)
            if child.identity is not None:
                child.adopted = True
                child.started_mono_s, child.started_at_s = time.monotonic(), time.time()
                log(child.program.name, f"pid {child.identity.pid} was left by an earlier supervisor: adopted")

    def _loop(self) -> None:
        self._write_status()
        housekeeping_s = time.monotonic() + self._policy.housekeeping_s
        while not self._stopping:
            self._start_due()
            now_s = time.monotonic()
            if now_s >= housekeeping_s:
                self._rotate_logs()
                housekeeping_s = now_s + self._policy.housekeeping_s
            due = [child.due_mono_s for child in self._children if child.identity is None]
            if self._status_due:
                due.append(now_s + self._policy.status_again_s)
            if any(child.adopted for child in self._children):
                due.append(now_s + self._policy.look_s)
            event = signal.sigtimedwait(_WAKING, max(0.0, min([housekeeping_s, *due]) - now_s))
            if event is not None and event.si_signo in (signal.SIGTERM, signal.SIGINT):
                log(self._setting.name, f"{signal.Signals(event.si_signo).name}: stopping")
                self._stopping = True
            if self._reap() or self._status_due:
                self._write_status()

    def _start_due(self) -> None:
        now_s = time.monotonic()
        due = [child for child in self._children if child.identity is None and child.due_mono_s <= now_s]
        for child in due:
            self._start(child)
        if due:
            self._write_status()

    def _start(self, child: _Child) -> None:
        if child.last_exit:
            child.restarts += 1
        pid = os.fork()
        if pid == 0:
            self._become(child.program)
        child.started_mono_s, child.started_at_s = time.monotonic(), time.time()
        child.identity = processes.identify(pid)
        if child.identity is None:  # gone already; the zombie still waits to be reaped
            child.identity = ProcessIdentity(pid, 0, "")

    def _become(self, program: Program) -> NoReturn:
        """In the child: turn into the program. Returns never."""
        try:
            os.setsid()
            identity = processes.own_identity()
            processes.write_pid_file(self._setting.program_pid_path(program.name), identity)
            # SAFETY: the file was written while the supervisor lived, so its successor sees it; else we must not start.
            if os.getppid() != self._pid:
                os._exit(1)
            self._redirect(program)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, other programs must not inherit that
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._old_mask)
            os.execvp(program.argv[0], program.argv)  # noqa: S606 - no shell is what we want
        except OSError as e:
            os.write(2, f"cannot start {program.argv[0]}: {e}\n".encode())
        finally:
            os._exit(127)

    def _redirect(self, program: Program) -> None:
        output = os.open(self._log_file(program), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, 1024)

    def _log_file(self, program: Program) -> Path:
        return self._setting.log_path / f"{program.name}.log"

    def _reap(self) -> bool:
        """Take note of everything that ended; whether one of ours did."""
        by_pid = {child.identity.pid: child for child in self._children if child.identity is not None}
        ours = self._look_at_adopted()
        while True:
            try:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ours
            if pid == 0:
                return ours
            child = by_pid.get(pid)
            if child is None:
                continue  # an orphan that came to us as subreaper
            ours = True
            why = describe_exit(wait_status)
            child.ended(why, time.monotonic(), self._policy)
            if not self._stopping:
                log(child.program.name, f"pid {pid} {why}; next start in {child.delay_s:g} s")

    def _look_at_adopted(self) -> bool:
        """Take note of the end of programs that are not our children; whether one ended."""
        ended = [child for child in self._children if child.adopted and not processes.is_alive(child.identity)]
        for child in ended:
            child.ended("ended; it was an earlier supervisor's", time.monotonic(), self._policy)
            log(child.program.name, child.last_exit)
        return bool(ended)

    def _stop(self) -> None:
        """Stop all, the last group first."""
        for group in sorted({child.program.group for child in self._children}, reverse=True):
            members = [child for child in self._children if child.program.group == group]
            identities = [child.identity for child in members if child.identity is not None]
            for identity in processes.stop(identities, self._policy.stop_deadline_s):
                log(str(identity.pid), f"did not stop within {self._policy.stop_deadline_s:g} s: killed")
            self._reap()
            for child in members:
                self._setting.program_pid_path(child.program.name).unlink(missing_ok=True)

    def _write_status(self) -> None:
        status = Status(processes.own_identity(), self._started_at_s, [child.status() for child in self._children])
        try:
            write_atomically(self._setting.status_path, msgspec.json.encode(status))
        except OSError as error:  # a full disk must not end the one who keeps the others running
            if not self._status_due:
                log(self._setting.name, f"the status file cannot be written: {error.strerror}")
            self._status_due = True
        else:
            self._status_due = False

    def _rotate_logs(self) -> None:
        """Move a log that has grown too long aside. Its writers append, so the file may be cut under them."""
        for child in self._children:
            path = self._log_file(child.program)
            try:
                if path.exists() and path.stat().st_size > self._policy.log_bytes_max:
                    shutil.copyfile(path, path.with_suffix(".log.1"))
                    os.truncate(path, 0)
            except OSError as error:
                log(child.program.name, f"its log could not be moved aside: {error.strerror}")


def _become_subreaper() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become a child subreaper")


def log(subject: str, message: str) -> None:
    """One line of the supervisor's log, as far as it can be written."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with contextlib.suppress(OSError):  # the log may be on the disk that is full
        os.write(sys.stderr.fileno(), f"{stamp} {subject}: {message}\n".encode())
