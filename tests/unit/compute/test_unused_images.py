"""Images that no guest uses any more leave the cache when they are old enough, and no other does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from nova_fast.compute.daemon import HostDaemon
from nova_fast.compute.drivers.libvirt.image_cache import CachedImage
from nova_fast.config import Config, ImageCacheConfig
from nova_fast.model.errors import Unavailable
from nova_fast.model.tasks import Guest, GuestImage

from .builders import IMAGE_ID, a_guest, an_image
from .test_disks import MIB, Host, qemu_img

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")

OTHER_ID = "bbbbbbbb-1111-4222-8333-444455556666"
DAY_S = 86400.0


class Machine(Host):
    """A host that clears its cache."""

    def another(self) -> GuestImage:
        path = self.store / OTHER_ID
        qemu_img("create", "-q", "-f", "qcow2", str(path), str(8 * MIB))
        return an_image(path, id=OTHER_ID)

    def used_by(self, image: GuestImage) -> Guest:
        """A guest that has been made from an image."""
        guest = a_guest(image=image)
        self.folders.make(guest, self.get(image))
        return guest

    def unused_for(self, age_s: float) -> None:
        for entry in (self.instances / "_base").iterdir():
            os.utime(entry, (time.time() - age_s,) * 2)
        self.forget()

    def forget(self) -> None:
        """Be a process that has just started."""
        self.cache = type(self.cache)(self.instances / "_base", self.cache._access, self.cache._run_blocking)

    async def clear(
        self, min_age_s: float = DAY_S, meanwhile: Callable[[], Awaitable[object]] | None = None
    ) -> list[str]:
        async def in_use() -> set[str] | None:
            found = await asyncio.to_thread(self.folders.images_in_use)
            if meanwhile is not None:
                await meanwhile()
            return found

        return await self.cache.remove_unused(in_use, min_age_s)


@pytest.fixture
def host(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_an_image_no_guest_uses_goes_when_it_is_old_and_one_in_use_stays(host: Machine) -> None:
    guest = host.used_by(host.image())
    host.get(host.another())
    host.unused_for(DAY_S - 60)
    assert asyncio.run(host.clear()) == []
    host.unused_for(DAY_S + 60)
    assert asyncio.run(host.clear()) == [OTHER_ID]
    assert host.cached() == [IMAGE_ID]
    host.folders.remove(guest.server_id)
    assert asyncio.run(host.clear()) == [], "it was in use when we looked last: its age begins there"
    host.unused_for(DAY_S + 60)
    assert asyncio.run(host.clear()) == [IMAGE_ID]


def test_an_image_that_was_asked_for_again_is_young(host: Machine) -> None:
    image = host.image()
    host.get(image)
    host.unused_for(DAY_S + 60)
    host.get(image)
    host.forget()
    assert asyncio.run(host.clear()) == []


def test_the_disc_of_a_guest_stays(host: Machine) -> None:
    image = host.image("iso", 2 * MIB)
    Path(image.path).write_bytes(bytes(0x8001) + b"CD001" + bytes(2 * MIB))
    image = an_image(Path(image.path), "iso")
    host.used_by(image)
    host.unused_for(DAY_S + 60)
    assert asyncio.run(host.clear()) == []


def test_a_guest_of_an_earlier_release_names_its_image_by_its_disk(host: Machine) -> None:
    guest = host.used_by(host.image())
    (host.folders.folder(guest.server_id) / "image").unlink()
    host.get(host.another())
    host.unused_for(DAY_S + 60)
    assert asyncio.run(host.clear()) == [OTHER_ID]


@pytest.mark.parametrize("left", ["nothing", "an empty note", "a disk without an image"])
def test_nothing_goes_while_a_guest_does_not_say_what_it_uses(host: Machine, left: str) -> None:
    guest = host.used_by(host.image())
    folder = host.folders.folder(guest.server_id)
    (folder / "image").unlink()
    (folder / "disk").unlink()
    if left == "an empty note":
        (folder / "image").touch()
    elif left == "a disk without an image":
        qemu_img("create", "-q", "-f", "qcow2", str(folder / "disk"), "1M")
    host.unused_for(DAY_S + 60)
    assert asyncio.run(host.clear()) == []
    host.folders.remove(guest.server_id)
    assert asyncio.run(host.clear()) == [IMAGE_ID]


def test_other_files_are_left(host: Machine) -> None:
    base = host.instances / "_base"
    names = [f".{IMAGE_ID}.0123abcd.partial", "lost+found", "notes.txt"]
    for name in names:
        (base / name).touch()
    host.unused_for(DAY_S + 60)
    assert asyncio.run(host.clear()) == [] and host.cached() == sorted(names)


# ---------------------------------------------------------------------- the race with a guest that is being made
def test_an_image_that_a_guest_is_being_made_from_stays(host: Machine) -> None:
    image = host.image()

    async def play() -> None:
        async with host.cache.holding(image) as cached:
            assert await host.clear(0) == []
            host.folders.make(a_guest(image=image), cached)
        assert await host.clear(0) == []
        host.folders.remove(a_guest().server_id)
        assert await host.clear(0) == [IMAGE_ID]

    asyncio.run(play())


def test_an_image_from_which_a_guest_was_made_while_we_looked_stays(host: Machine) -> None:
    """Begun before or after the look, ended after it: the guest was not among those that were seen."""
    image = host.image()
    made = asyncio.Event()

    async def make(begun: asyncio.Event) -> None:
        async with host.cache.holding(image) as cached:
            begun.set()
            await made.wait()
            host.folders.make(a_guest(image=image), cached)

    async def play(*, before: bool) -> None:
        begun = asyncio.Event()
        made.clear()
        maker = asyncio.ensure_future(make(begun)) if before else None
        if before:
            await begun.wait()

        async def meanwhile() -> None:
            made.set()
            await (maker or make(begun))

        assert await host.clear(0, meanwhile) == []
        assert host.cached() == [IMAGE_ID]
        host.folders.remove(a_guest().server_id)

    for before in (True, False):
        asyncio.run(play(before=before))


def test_who_asks_while_an_image_goes_has_it_again(host: Machine) -> None:
    image = host.image()

    async def play() -> CachedImage:
        await host.cache.get(image)
        async with asyncio.timeout(30):
            removed, again = await asyncio.gather(host.clear(0), _later(host, image))
        assert removed in ([], [IMAGE_ID])
        return again

    for _ in range(20):
        assert Path(asyncio.run(play()).path).exists()


async def _later(host: Machine, image: GuestImage) -> CachedImage:
    await asyncio.sleep(0)
    return await host.cache.get(image)


# ---------------------------------------------------------------------- the daemon
class Counting:
    """A driver of which only this is asked."""

    def __init__(self) -> None:
        self.looks = 0

    async def manage_image_cache(self) -> None:
        self.looks += 1
        raise Unavailable("The disk does not answer.")


@pytest.mark.parametrize(
    ("options", "looks"),
    [
        (ImageCacheConfig(manager_interval=100), 9),
        (ImageCacheConfig(manager_interval=0), 15),
        (ImageCacheConfig(manager_interval=-1), 0),
        (ImageCacheConfig(manager_interval=100, remove_unused_base_images=False), 0),
    ],
    ids=["now and then", "each minute", "never", "keep all"],
)
def test_a_host_looks_as_often_as_it_was_told(
    options: ImageCacheConfig, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, waited_s = Counting(), 0.0

    async def sleep(pause_s: float) -> None:
        nonlocal waited_s
        waited_s += pause_s
        if waited_s > 950:
            raise asyncio.CancelledError

    async def play() -> None:
        daemon = HostDaemon(Config(image_cache=options), "h1", make_driver=lambda _config, _change: driver)  # type: ignore[arg-type, return-value]
        monkeypatch.setattr(asyncio, "sleep", sleep)
        await daemon._manage_image_cache()

    with pytest.raises(asyncio.CancelledError) if looks else contextlib.nullcontext():
        asyncio.run(play())
    assert driver.looks == looks


def test_a_negative_age_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"remove_unused_original_minimum_age_seconds": -1}, ImageCacheConfig)
