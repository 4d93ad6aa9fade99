"""The libvirt driver with real guests: boot, every power action, what happens behind our back, and leaving nothing.

The guest writes ``<host name> login:`` to its serial console, reads a config drive and shuts down on ACPI. Guests have
96 MiB and no network card; at most one runs at a time.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import uvloop

from nova_fast.compute.drivers.libvirt.binding import UNREACHABLE, Connection
from nova_fast.compute.drivers.libvirt.driver import LibvirtDriver
from nova_fast.compute.drivers.libvirt.power_states import DomainState, DomainStatus
from nova_fast.config import ComputeConfig, Config, ImageCacheConfig
from nova_fast.model.errors import Conflict, InternalError, NotFound, Unavailable
from nova_fast.model.states import Action, PowerState
from nova_fast.model.tasks import Guest, GuestImage, GuestNic, GuestState, PowerGuest, ReadConsole
from tests.tries import least_of

URI = os.environ.get("NOVA_FAST_TEST_LIBVIRT_URI", "qemu:///system")
BOOT_TIMEOUT_S = 90.0
pytestmark = [pytest.mark.needs_qemu, pytest.mark.slow]


@pytest.fixture(scope="module")
def image(local_libvirt: None, guest_image: Path) -> GuestImage:
    content = guest_image.read_bytes()
    return GuestImage(
        id=str(uuid.uuid4()),
        path=str(guest_image),
        size=len(content),
        sha512=hashlib.sha512(content).hexdigest(),
        disk_format="qcow2",
    )


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as made:
        yield made


@dataclasses.dataclass
class Cloud:
    """One driver over one folder of instances, and what it reported."""

    runner: asyncio.Runner
    config: Config
    driver: LibvirtDriver
    changes: list[GuestState]

    def spawn(self, guest: Guest) -> GuestState:
        return self.runner.run(self.driver.spawn(guest))

    def power(self, guest: Guest, action: Action, **options: float | bool) -> PowerState:
        message = PowerGuest(guest=guest, action=action, **options)  # type: ignore[arg-type]
        return self.runner.run(self.driver.power(message)).power_state

    def console(self, guest: Guest, lines: int | None = None) -> str:
        message = ReadConsole(server_id=guest.server_id, domain_name=guest.domain_name, lines=lines)
        return self.runner.run(self.driver.console(message))

    def states(self) -> dict[str, PowerState]:
        return {state.server_id: state.power_state for state in self.runner.run(self.driver.inventory())}

    def wait_for(self, holds: Callable[[], bool], timeout_s: float) -> float:
        """How long it took until something held; the loop runs meanwhile."""
        started = time.monotonic()
        while not holds():
            assert time.monotonic() - started < timeout_s, "it did not come to be"
            self.runner.run(asyncio.sleep(0.05))
        return time.monotonic() - started

    def wait_for_logins(self, guest: Guest, count: int) -> None:
        self.wait_for(lambda: self.console(guest).count(f"{guest.name} login:") >= count, BOOT_TIMEOUT_S)

    def booted(self, guest: Guest) -> Guest:
        assert self.spawn(guest).power_state is PowerState.RUNNING
        self.wait_for_logins(guest, 1)
        return guest

    def destroy(self, guest: Guest) -> PowerState:
        return self.runner.run(self.driver.destroy(guest.server_id, guest.domain_name)).power_state

    def new_driver(self) -> LibvirtDriver:
        driver = LibvirtDriver(self.config, self.changes.append)
        self.runner.run(driver.start())
        return driver


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="nova-fast-test-"))
    made.chmod(0o711)  # QEMU's user passes through
    yield made
    shutil.rmtree(made)


@pytest.fixture
def cloud(runner: asyncio.Runner, folder: Path, image: GuestImage) -> Iterator[Cloud]:
    config = Config(state_dir=str(folder), compute=ComputeConfig(libvirt_uri=URI))
    changes: list[GuestState] = []
    driver = LibvirtDriver(config, changes.append)
    runner.run(driver.start())
    made = Cloud(runner, config, driver, changes)
    yield made
    for server_id in made.states():
        runner.run(made.driver.destroy(server_id, ""))
    runner.run(made.driver.close())


@pytest.fixture
def guest(image: GuestImage) -> Guest:
    server_id = str(uuid.uuid4())
    meta_data = {"uuid": server_id, "hostname": f"box-{server_id[:4]}"}
    return Guest(
        server_id=server_id,
        domain_name=f"nftest-{server_id[:8]}",
        name=meta_data["hostname"],
        project_id="project",
        user_id="user",
        vcpus=1,
        ram_mib=96,
        root_disk_gib=1,
        ephemeral_gib=0,
        swap_mib=0,
        image=image,
        nics=(),
        config_drive={"openstack/latest/meta_data.json": json.dumps(meta_data).encode()},
    )


def qemu_pid(guest: Guest) -> int:
    """The process of this guest: the one whose command line has its UUID."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"qemu-system" in arguments[0] and guest.server_id.encode() in arguments:
                return int(entry.name)
    raise AssertionError("the guest has no process")


def virsh(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["virsh", "-q", "-c", URI, *arguments], capture_output=True, text=True, timeout=30, check=False
    )


def test_a_guest_boots_reads_its_config_drive_and_goes_through_every_power_action(cloud: Cloud, guest: Guest) -> None:
    cloud.booted(guest)
    assert "datasource config-drive" in cloud.console(guest)
    assert cloud.console(guest, lines=1).endswith("login: ")
    assert cloud.spawn(guest).power_state is PowerState.RUNNING, "spawning again changes nothing"
    first_process = qemu_pid(guest)

    assert cloud.power(guest, Action.PAUSE) is PowerState.PAUSED
    assert cloud.power(guest, Action.PAUSE) is PowerState.PAUSED
    assert cloud.power(guest, Action.UNPAUSE) is PowerState.RUNNING
    assert qemu_pid(guest) == first_process

    assert cloud.power(guest, Action.SUSPEND) is PowerState.SUSPENDED
    assert cloud.states() == {guest.server_id: PowerState.SUSPENDED}
    assert cloud.power(guest, Action.SUSPEND) is PowerState.SUSPENDED
    assert cloud.power(guest, Action.RESUME) is PowerState.RUNNING
    assert cloud.console(guest).count("login:") == 1, "it went on where it was, and its log with it"

    assert cloud.power(guest, Action.STOP, grace_s=30.0) is PowerState.SHUTDOWN
    assert "Power down" in cloud.console(guest), "it shut down by itself"
    assert cloud.power(guest, Action.STOP) is PowerState.SHUTDOWN
    with pytest.raises(Conflict):
        cloud.power(guest, Action.PAUSE)
    assert cloud.spawn(guest).power_state is PowerState.SHUTDOWN, "spawning again does not wipe what has run"
    assert cloud.power(guest, Action.START) is PowerState.RUNNING
    cloud.wait_for_logins(guest, 2)
    assert cloud.changes == [], "what we do ourselves is not reported"


def test_a_soft_reboot_goes_through_the_guest_and_a_hard_one_does_not(cloud: Cloud, guest: Guest) -> None:
    cloud.booted(guest)
    downs = cloud.console(guest).count("Power down")
    assert cloud.power(guest, Action.REBOOT, grace_s=30.0) is PowerState.RUNNING
    assert cloud.console(guest).count("Power down") == downs + 1
    cloud.wait_for_logins(guest, 2)

    def took_s() -> float:
        started = time.monotonic()
        assert cloud.power(guest, Action.REBOOT, hard=True) is PowerState.RUNNING
        return time.monotonic() - started

    assert least_of(took_s, 8) < 8
    assert cloud.console(guest).count("Power down") == downs + 1
    assert cloud.changes == []


def test_a_guest_that_does_not_listen_is_powered_off_when_its_grace_ends(cloud: Cloud, guest: Guest) -> None:
    cloud.spawn(guest)  # the firmware still runs: nobody hears the power button

    def took_s() -> float:
        cloud.power(guest, Action.START)
        started = time.monotonic()
        assert cloud.power(guest, Action.STOP, grace_s=0.5) is PowerState.SHUTDOWN
        return time.monotonic() - started

    assert least_of(took_s, 5) < 5


def test_a_killed_guest_is_reported_within_two_seconds_and_starts_again(cloud: Cloud, guest: Guest) -> None:
    cloud.spawn(guest)

    def took_s() -> float:
        cloud.changes.clear()
        os.kill(qemu_pid(guest), signal.SIGKILL)
        took_s = cloud.wait_for(lambda: bool(cloud.changes), 60)
        assert cloud.changes == [GuestState(server_id=guest.server_id, power_state=PowerState.SHUTDOWN)]
        assert cloud.power(guest, Action.REBOOT, hard=True) is PowerState.RUNNING
        return took_s

    assert least_of(took_s, 2.0) <= 2.0
    cloud.wait_for_logins(guest, 1)


def test_a_guest_that_shuts_itself_down_is_reported(cloud: Cloud, guest: Guest) -> None:
    cloud.booted(guest)
    assert virsh("shutdown", guest.domain_name, "--mode=acpi").returncode == 0
    cloud.wait_for(lambda: bool(cloud.changes), 60)
    assert cloud.changes == [GuestState(server_id=guest.server_id, power_state=PowerState.SHUTDOWN)]


def test_a_new_driver_finds_the_guest_running(cloud: Cloud, guest: Guest) -> None:
    cloud.spawn(guest)
    process = qemu_pid(guest)
    cloud.runner.run(cloud.driver.close())
    cloud.driver = cloud.new_driver()
    assert cloud.states() == {guest.server_id: PowerState.RUNNING}
    assert qemu_pid(guest) == process
    os.kill(process, signal.SIGKILL)
    cloud.wait_for(lambda: bool(cloud.changes), 60)


def test_a_lost_connection_comes_back_and_what_happened_meanwhile_is_reported(cloud: Cloud, guest: Guest) -> None:
    cloud.spawn(guest)
    process = qemu_pid(guest)
    session = cloud.driver._session
    cut = session._connection
    assert cut is not None

    async def cut_off() -> None:
        session._lost(cut)  # as libvirt's close callback does
        os.kill(process, signal.SIGKILL)

    cloud.runner.run(cut_off())
    cloud.wait_for(lambda: bool(cloud.changes), 60)
    assert cloud.changes == [GuestState(server_id=guest.server_id, power_state=PowerState.SHUTDOWN)]
    assert session._connection is not cut
    assert cloud.power(guest, Action.START) is PowerState.RUNNING


@pytest.mark.parametrize("done", [True, False], ids=["after it", "before it"])
def test_an_operation_under_which_libvirtd_goes_away_is_done_again(cloud: Cloud, guest: Guest, done: bool) -> None:
    start, kill, cuts = cloud.driver._domains.start, cloud.driver._domains.kill, iter(range(2))

    def cut(operation: Callable[[str], Awaitable[None]]) -> Callable[[str], Awaitable[None]]:
        async def one(server_id: str) -> None:
            gone = next(cuts, None) is not None
            if done or not gone:
                await operation(server_id)
            if gone:
                raise Unavailable("libvirt went away", code=UNREACHABLE)

        return one

    cloud.driver._domains.start = cut(start)  # type: ignore[method-assign]
    assert cloud.spawn(guest).power_state is PowerState.RUNNING
    process, cuts = qemu_pid(guest), iter(range(2))
    cloud.driver._domains.kill = cut(kill)  # type: ignore[method-assign]
    assert cloud.destroy(guest) is PowerState.NOSTATE
    assert not Path(f"/proc/{process}").exists()
    assert cloud.states() == {}


def test_a_power_action_after_which_libvirtd_goes_away_has_not_failed(
    cloud: Cloud, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.spawn(guest)
    suspend, status_of, cuts = Connection.suspend, Connection.status, iter(range(0))

    def suspended(connection: Connection, server_id: str) -> None:
        nonlocal cuts
        suspend(connection, server_id)
        cuts = iter(range(1))

    def status(connection: Connection, server_id: str) -> DomainStatus | None:
        if next(cuts, None) is not None:
            raise Unavailable("libvirt went away", code=UNREACHABLE)
        return status_of(connection, server_id)

    monkeypatch.setattr(Connection, "suspend", suspended)
    monkeypatch.setattr(Connection, "status", status)
    assert cloud.power(guest, Action.PAUSE) is PowerState.PAUSED


def test_a_start_that_libvirtd_did_not_live_to_finish_is_waited_for_and_made_again(
    cloud: Cloud, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, status_of = iter(range(3)), Connection.status

    def status(connection: Connection, server_id: str) -> DomainStatus | None:
        if next(looks, None) is None:
            return status_of(connection, server_id)
        instances = str(cloud.config.instances_path)
        state = DomainState.PAUSED  # with the reason that libvirt gives it then
        return DomainStatus(
            server_id=server_id, name="half", state=state, saved=False, instances_dir=instances, starting=True
        )

    monkeypatch.setattr(Connection, "status", status)
    assert cloud.spawn(guest).power_state is PowerState.RUNNING
    assert next(looks, None) is None
    assert qemu_pid(guest)


def test_the_domain_is_made_again_when_libvirt_has_forgotten_it(cloud: Cloud, guest: Guest) -> None:
    cloud.spawn(guest)
    assert virsh("destroy", guest.domain_name).returncode == 0
    assert virsh("undefine", guest.domain_name).returncode == 0
    cloud.wait_for(lambda: bool(cloud.changes) and cloud.changes[-1].power_state is PowerState.NOSTATE, 60)
    assert cloud.states() == {guest.server_id: PowerState.NOSTATE}
    with pytest.raises(NotFound):
        cloud.power(guest, Action.PAUSE)
    assert cloud.power(guest, Action.START) is PowerState.RUNNING
    cloud.wait_for_logins(guest, 1)


def test_destroying_leaves_nothing_and_can_be_repeated(cloud: Cloud, guest: Guest) -> None:
    cloud.spawn(guest)
    process = qemu_pid(guest)
    assert cloud.destroy(guest) is PowerState.NOSTATE
    assert not Path(f"/proc/{process}").exists()
    assert virsh("domstate", guest.server_id).returncode != 0
    assert [entry.name for entry in cloud.config.instances_path.iterdir()] == ["_base"]
    assert cloud.destroy(guest) is PowerState.NOSTATE
    assert cloud.states() == {}
    with pytest.raises(NotFound):
        cloud.console(guest)
    assert cloud.changes == []


def test_a_saved_guest_is_destroyed_with_its_memory(cloud: Cloud, guest: Guest) -> None:
    cloud.spawn(guest)
    assert cloud.power(guest, Action.SUSPEND) is PowerState.SUSPENDED
    assert cloud.destroy(guest) is PowerState.NOSTATE
    assert virsh("domstate", guest.server_id).returncode != 0


def test_others_domains_are_not_seen_and_not_touched(cloud: Cloud, guest: Guest) -> None:
    path = cloud.config.state_path / "foreign.xml"
    path.write_text(
        f"<domain type='qemu'><name>{guest.domain_name}</name><uuid>{guest.server_id}</uuid>"
        "<memory unit='MiB'>16</memory><os><type arch='x86_64'>hvm</type></os></domain>"
    )
    assert virsh("define", str(path)).returncode == 0
    try:
        assert cloud.states() == {}
        for work in (
            lambda: cloud.spawn(guest),
            lambda: cloud.destroy(guest),
            lambda: cloud.power(guest, Action.REBOOT, hard=True),
        ):
            with pytest.raises(Conflict):
                work()
        assert virsh("domstate", guest.server_id).stdout.strip() == "shut off"
    finally:
        virsh("undefine", guest.server_id)


def test_a_name_that_is_taken_gets_the_servers_id_behind_it(cloud: Cloud, guest: Guest) -> None:
    path = cloud.config.state_path / "foreign.xml"
    path.write_text(
        f"<domain type='qemu'><name>{guest.domain_name}</name><memory unit='MiB'>16</memory>"
        "<os><type arch='x86_64'>hvm</type></os></domain>"
    )
    assert virsh("define", str(path)).returncode == 0
    try:
        assert cloud.spawn(guest).power_state is PowerState.RUNNING
        for hard in (False, True):  # it keeps the name when it is defined again
            assert virsh("domname", guest.server_id).stdout.strip() == f"{guest.domain_name}-{guest.server_id[:8]}"
            assert cloud.power(guest, Action.REBOOT, hard=hard) is PowerState.RUNNING
        assert cloud.power(guest, Action.STOP) is PowerState.SHUTDOWN
        assert cloud.power(guest, Action.START) is PowerState.RUNNING
    finally:
        virsh("undefine", guest.domain_name)


def test_switching_everything_off_keeps_disks_and_suspended_memory(cloud: Cloud, guest: Guest) -> None:
    other = msgspec.structs.replace(guest, server_id=str(uuid.uuid4()), domain_name=guest.domain_name + "-b")
    cloud.spawn(guest)
    cloud.spawn(other)
    assert cloud.power(other, Action.SUSPEND) is PowerState.SUSPENDED
    assert cloud.runner.run(cloud.driver.switch_off_all(0.5)) == []
    assert cloud.states() == {guest.server_id: PowerState.NOSTATE, other.server_id: PowerState.SUSPENDED}
    assert virsh("domstate", guest.server_id).returncode != 0
    assert cloud.power(guest, Action.START) is PowerState.RUNNING
    assert cloud.destroy(guest) is PowerState.NOSTATE
    assert cloud.power(other, Action.RESUME) is PowerState.RUNNING
    assert cloud.changes == []


def test_a_driver_that_could_not_start_can_try_again(cloud: Cloud) -> None:
    closed = cloud.config.state_path
    closed.chmod(0o700)
    driver = LibvirtDriver(cloud.config, cloud.changes.append)
    with pytest.raises(Conflict) as caught:
        cloud.runner.run(driver.start())
    assert caught.value.code == "instances_dir_barred"
    closed.chmod(0o711)
    cloud.runner.run(driver.start())
    cloud.runner.run(driver.close())


def test_an_absent_libvirtd_is_said_in_words(runner: asyncio.Runner, image: GuestImage, tmp_path: Path) -> None:
    uri = f"qemu:///system?socket={tmp_path}/none.sock"
    driver = LibvirtDriver(Config(state_dir=str(tmp_path), compute=ComputeConfig(libvirt_uri=uri)), lambda _: None)
    with pytest.raises(Unavailable) as caught:
        runner.run(driver.start())
    assert caught.value.hint is not None
    runner.run(driver.close())


def test_what_a_spawn_left_half_made_is_seen_and_made_again(cloud: Cloud, guest: Guest) -> None:
    leftover = cloud.config.instances_path / guest.server_id
    leftover.mkdir()
    (leftover / "disk").write_bytes(b"half")
    assert cloud.states() == {guest.server_id: PowerState.NOSTATE}
    assert cloud.spawn(guest).power_state is PowerState.RUNNING
    cloud.wait_for_logins(guest, 1)


def test_a_spawn_that_fails_says_why_and_leaves_nothing(cloud: Cloud, guest: Guest) -> None:
    nic = GuestNic(port_id="p", mac_address="fa:16:3e:00:00:01", bridge="nf-no-bridge", tap="nf-no-tap", mtu=1450)
    with pytest.raises(InternalError, match="nf-no-bridge"):
        cloud.spawn(msgspec.structs.replace(guest, nics=(nic,)))
    assert cloud.states() == {}
    assert virsh("domstate", guest.server_id).returncode != 0
    assert [entry.name for entry in cloud.config.instances_path.iterdir()] == ["_base"]
    cloud.runner.run(asyncio.sleep(0.2))
    assert cloud.changes == []
    assert cloud.spawn(guest).power_state is PowerState.RUNNING


def test_an_image_leaves_the_host_after_the_last_guest_that_uses_it(cloud: Cloud, guest: Guest) -> None:
    cloud.config = msgspec.structs.replace(
        cloud.config, image_cache=ImageCacheConfig(remove_unused_original_minimum_age_seconds=0)
    )
    cloud.runner.run(cloud.driver.close())
    cloud.driver = cloud.new_driver()
    base = cloud.config.instances_path / "_base" / guest.image.id
    cloud.spawn(guest)
    cloud.power(guest, Action.STOP, grace_s=0.1)
    cloud.runner.run(cloud.driver.manage_image_cache())
    assert cloud.power(guest, Action.START) is PowerState.RUNNING
    cloud.destroy(guest)
    assert base.exists()
    cloud.runner.run(cloud.driver.manage_image_cache())
    assert not base.exists()
    cloud.booted(guest)


def test_a_guest_whose_root_disk_has_gone_is_not_started_from_a_blank_one(cloud: Cloud, guest: Guest) -> None:
    cloud.spawn(guest)
    cloud.power(guest, Action.STOP, grace_s=0.1)
    (cloud.config.instances_path / guest.server_id / "disk").unlink()
    with pytest.raises(InternalError) as caught:
        cloud.power(guest, Action.START)
    assert caught.value.code == "guest_disk_missing"


def test_the_host_tells_what_it_has(cloud: Cloud) -> None:
    resources = cloud.runner.run(cloud.driver.resources())
    assert resources.vcpus == os.cpu_count()
    assert resources.hypervisor_type == "QEMU"
    assert resources.hypervisor_version > 2_000_000
    assert resources.ram_mib == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    assert resources.cpu_info["arch"] == resources.architecture
    assert "load average" in resources.uptime


def test_files_of_guests_are_closed_to_other_users(cloud: Cloud, guest: Guest) -> None:
    cloud.spawn(guest)
    folder = cloud.config.instances_path / guest.server_id
    assert folder.stat().st_mode & 0o007 == 0
    assert (cloud.config.instances_path / "_base").stat().st_mode & 0o007 == 0
    for file in ("disk", "disk.config"):
        assert (folder / file).stat().st_mode & 0o077 == 0
    base = cloud.config.instances_path / "_base" / guest.image.id
    assert base.stat().st_uid == os.getuid(), "what many guests read belongs to none of them"
    assert base.stat().st_mode & 0o222 == 0
