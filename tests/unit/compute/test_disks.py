"""The image cache and the guests' folders, with the real qemu-img."""

from __future__ import annotations

import asyncio
import json
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from nova_fast.compute.drivers.libvirt.disks import CONSOLE_BYTES_MAX, GuestFolders, last_lines
from nova_fast.compute.drivers.libvirt.file_access import FileAccess
from nova_fast.compute.drivers.libvirt.image_cache import CachedImage, ImageCache
from nova_fast.compute.drivers.libvirt.tools import Limits, run_tool
from nova_fast.model.errors import BadRequest, InternalError, NotFound, NotImplementedHere, Unavailable
from nova_fast.model.tasks import GuestImage

from .builders import IMAGE_ID, SERVER_ID, a_guest, an_image

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
T = TypeVar("T")
MIB, GIB = 1 << 20, 1 << 30


def qemu_img(*arguments: str) -> bytes:
    return subprocess.run(["qemu-img", *arguments], check=True, capture_output=True, timeout=30).stdout


def info(path: Path | str) -> dict[str, object]:
    described: dict[str, object] = json.loads(qemu_img("info", "--output=json", str(path)))
    return described


class Host:
    """A folder of instances and a store of images."""

    def __init__(self, tmp_path: Path) -> None:
        self.store = tmp_path / "store"
        self.instances = tmp_path / "instances"
        access = FileAccess(None)
        self.store.mkdir()
        for folder in (self.instances, self.instances / "_base"):
            access.make_folder(folder)
        self.fills = 0

        async def run_blocking(blocking: Callable[[], T]) -> T:
            self.fills += 1
            return await asyncio.to_thread(blocking)

        self.cache = ImageCache(self.instances / "_base", access, run_blocking)
        self.folders = GuestFolders(self.instances, access)

    def image(self, disk_format: str = "qcow2", size: int = 8 * MIB) -> GuestImage:
        path = self.store / IMAGE_ID
        if disk_format == "qcow2":
            qemu_img("create", "-q", "-f", "qcow2", str(path), str(size))
        else:
            path.write_bytes(b"boot" + bytes(size - 8) + b"tail")
        return an_image(path, disk_format)

    def get(self, image: GuestImage) -> CachedImage:
        return asyncio.run(self.cache.get(image))

    def cached(self) -> list[str]:
        return sorted(entry.name for entry in (self.instances / "_base").iterdir())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize("disk_format", ["qcow2", "raw"])
def test_an_image_enters_the_cache_whole_and_readable_for_qemu(host: Host, disk_format: str) -> None:
    image = host.image(disk_format)
    cached = host.get(image)
    assert (cached.format, cached.virtual_size, cached.is_iso) == (disk_format, 8 * MIB, False)
    assert Path(cached.path).read_bytes() == Path(image.path).read_bytes()
    assert Path(cached.path).stat().st_mode & 0o777 == 0o444
    assert Path(cached.path).stat().st_ino != Path(image.path).stat().st_ino
    assert host.cached() == [IMAGE_ID]


def test_a_copy_under_which_a_process_died_goes_at_the_next_start(host: Host) -> None:
    host.get(host.image())
    (host.instances / "_base" / f".{IMAGE_ID}.0123abcd.partial").write_bytes(b"half")
    host.cache.remove_partial()
    assert host.cached() == [IMAGE_ID]


def test_zeros_of_a_raw_image_take_no_room(host: Host) -> None:
    cached = host.get(host.image("raw", 64 * MIB))
    assert Path(cached.path).stat().st_size == 64 * MIB
    assert Path(cached.path).stat().st_blocks * 512 < 8 * MIB


def test_many_who_ask_at_once_fill_it_once(host: Host) -> None:
    image = host.image()

    async def ask() -> list[CachedImage]:
        return await asyncio.gather(*(host.cache.get(image) for _ in range(20)))

    assert len(set(map(id, asyncio.run(ask())))) == 1
    assert host.fills == 1


def test_an_image_is_used_from_the_cache_when_the_store_has_lost_it(host: Host) -> None:
    image = host.image()
    first = host.get(image)
    Path(image.path).unlink()
    assert host.get(image) == first


def test_a_host_without_file_descriptors_says_so(host: Host) -> None:
    image = host.image()
    old = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def ask() -> None:
        await asyncio.to_thread(lambda: None)  # what the loop and its thread need is there
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, old[1]))  # what is open stays
        try:
            await host.cache.get(image)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, old)

    with pytest.raises(Unavailable, match="no file descriptors left"):
        asyncio.run(ask())
    assert host.get(image)


def test_an_image_whose_content_changed_does_not_enter(host: Host) -> None:
    image = an_image(Path(host.image().path), sha512="0" * 128)
    with pytest.raises(InternalError) as caught:
        host.get(image)
    assert caught.value.code == "image_damaged"
    assert host.cached() == []


def test_an_image_the_store_does_not_have_is_not_found(host: Host) -> None:
    with pytest.raises(NotFound):
        host.get(an_image(host.store / "gone"))


@pytest.mark.parametrize("image_id", ["../../etc/passwd", "a/b", "", ".."])
def test_an_image_id_never_leaves_the_cache(host: Host, image_id: str) -> None:
    with pytest.raises(BadRequest):
        host.get(an_image(Path(host.image().path), id=image_id))


def test_a_qcow2_with_a_backing_file_is_refused(host: Host) -> None:
    secret, image = host.store / "secret", host.store / IMAGE_ID
    secret.write_bytes(bytes(MIB))
    qemu_img("create", "-q", "-f", "qcow2", "-b", str(secret), "-F", "raw", str(image))
    with pytest.raises(BadRequest, match="backing file"):
        host.get(an_image(image))
    assert host.cached() == []


def test_a_qcow2_with_a_data_file_is_refused(host: Host) -> None:
    image = host.store / IMAGE_ID
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={host.store / 'secret'}", str(image), "1M")
    with pytest.raises(BadRequest, match="another file"):
        host.get(an_image(image))
    assert host.cached() == []


def test_a_new_guest_gets_an_overlay_of_the_flavors_size_on_the_cached_image(host: Host) -> None:
    image = host.get(host.image())
    guest = a_guest(root_disk_gib=2, ephemeral_gib=1, swap_mib=16, config_drive={"openstack/latest/x": b"y"})
    host.folders.make(guest, image)
    host.folders.write_config_drive(guest)
    root, ephemeral, swap, config = host.folders.disks(guest, image)
    described = info(root.path)
    assert (described["virtual-size"], described["format"]) == (2 * GIB, "qcow2")
    assert (described["backing-filename"], described["backing-filename-format"]) == (image.path, "qcow2")
    assert root.backing is not None
    assert root.backing.path == image.path
    assert Path(ephemeral.path).stat().st_size == GIB
    assert Path(ephemeral.path).stat().st_blocks * 512 < 64 * MIB
    assert b"ephemeral0" in Path(ephemeral.path).read_bytes()[:2048]
    assert Path(swap.path).read_bytes()[4086:4096] == b"SWAPSPACE2"
    assert config.read_only
    assert b"config-2" in Path(config.path).read_bytes()
    folder = host.folders.folder(SERVER_ID)
    assert folder.stat().st_mode & 0o077 == 0
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}


def test_a_flavor_without_a_root_disk_size_gives_one_as_large_as_the_image(host: Host) -> None:
    image = host.get(host.image())
    guest = a_guest(root_disk_gib=0)
    host.folders.make(guest, image)
    assert info(host.folders.disks(guest, image)[0].path)["virtual-size"] == 8 * MIB


def test_an_image_larger_than_the_flavors_disk_is_refused_before_anything_is_made(host: Host) -> None:
    image = host.get(host.image(size=3 * GIB))
    with pytest.raises(BadRequest, match="needs 3 GiB"):
        host.folders.make(a_guest(root_disk_gib=2), image)
    assert not host.folders.folder(SERVER_ID).exists()


@pytest.mark.parametrize(("root_disk_gib", "devices"), [(1, ["disk", "cdrom"]), (0, ["cdrom"])])
def test_an_iso_is_a_cdrom_beside_an_empty_disk(host: Host, root_disk_gib: int, devices: list[str]) -> None:
    path = host.store / IMAGE_ID
    path.write_bytes(bytes(0x8001) + b"CD001" + bytes(2048))
    image = host.get(an_image(path, "iso"))
    assert image.is_iso
    guest = a_guest(root_disk_gib=root_disk_gib)
    host.folders.make(guest, image)
    disks = host.folders.disks(guest, image)
    assert [disk.device for disk in disks] == devices
    assert disks[-1].path == image.path
    assert disks[-1].shared
    assert [disk.boot_order for disk in disks] == sorted(disk.boot_order for disk in disks)


def test_making_a_guest_again_starts_from_nothing_and_removing_it_leaves_nothing(host: Host) -> None:
    image = host.get(host.image())
    host.folders.make(a_guest(), image)
    (host.folders.folder(SERVER_ID) / "leftover").touch()
    host.folders.mark_spawned(SERVER_ID)
    assert host.folders.spawned(SERVER_ID)
    host.folders.make(a_guest(), image)
    assert not host.folders.spawned(SERVER_ID)
    assert sorted(file.name for file in host.folders.folder(SERVER_ID).iterdir()) == ["disk", "image"]
    for _ in range(2):
        host.folders.remove(SERVER_ID)
        assert host.cached() == [IMAGE_ID]
        assert not host.folders.folder(SERVER_ID).exists()


def test_a_disk_that_has_gone_is_an_error_that_names_it(host: Host) -> None:
    image = host.get(host.image())
    host.folders.make(a_guest(), image)
    (host.folders.folder(SERVER_ID) / "disk").unlink()
    with pytest.raises(InternalError, match="file disk of server"):
        host.folders.disks(a_guest(), image)


@pytest.mark.parametrize("server_id", ["..", "../x", "a/b", ""])
def test_a_server_id_never_leaves_the_instances(host: Host, server_id: str) -> None:
    with pytest.raises(BadRequest):
        host.folders.remove(server_id)


def test_the_console_is_the_end_of_the_log_across_a_rotation(host: Host) -> None:
    host.folders.make(a_guest(root_disk_gib=0), host.get(host.image()))
    log = host.folders.console_log(SERVER_ID)
    assert host.folders.read_console(SERVER_ID, None) == ""
    log.write_bytes(b"one\ntwo\xff\nthree")
    log.with_name("console.log.0").write_bytes(b"before\n")
    assert host.folders.read_console(SERVER_ID, None) == "before\none\ntwo\ufffd\nthree"
    assert host.folders.read_console(SERVER_ID, 2) == "two\ufffd\nthree"
    assert host.folders.read_console(SERVER_ID, 0) == ""
    log.write_bytes(b"x" * 3 * MIB + b"end")
    text = host.folders.read_console(SERVER_ID, None)
    assert len(text) == CONSOLE_BYTES_MAX
    assert text.endswith("xend")
    with pytest.raises(NotFound):
        host.folders.read_console("other", None)


def test_last_lines_keep_their_line_ends() -> None:
    assert last_lines("a\nb\nc\n", 2) == "b\nc\n"
    assert last_lines("a\n", 10) == "a\n"


def test_a_tool_has_a_deadline_limits_and_errors_in_words() -> None:
    with pytest.raises(Unavailable, match=r"did not end in 0\.1 s"):
        run_tool(["sleep", "5"], timeout_s=0.1)
    with pytest.raises(NotImplementedHere, match="not installed"):
        run_tool(["no-such-program-here"])
    with pytest.raises(InternalError) as caught:
        run_tool(["qemu-img", "info", "/no/such/secret"])
    assert "secret" not in caught.value.message
    with pytest.raises(InternalError):
        run_tool(
            ["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"], limits=Limits(address_space_bytes=64 * MIB)
        )
    assert run_tool(["echo", "here"], limits=Limits()) == b"here\n"
