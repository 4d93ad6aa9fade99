"""The files of images: locks, what a crash leaves, and what the sweep takes."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nova_fast.image.store import ImageStore, Received, storage_error
from nova_fast.model.errors import BadRequest, Conflict, NotFound, TooLarge, Unavailable
from tests.tries import least_of

IMAGE = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images", 20 << 20)


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def receive(store: ImageStore, *parts: bytes, disk_format: str = "raw") -> Received:
    async def work() -> Received:
        async with store.upload(IMAGE) as upload:
            return await upload.receive(pieces(*parts), disk_format)

    return asyncio.run(work())


def names(store: ImageStore) -> list[str]:
    return sorted(path.name for path in store.path(IMAGE).parent.iterdir())


def test_what_arrives_in_many_pieces_is_one_file_with_the_right_hashes(store: ImageStore) -> None:
    parts = [os.urandom(1_000_003) for _ in range(11)]
    received = receive(store, *parts)
    data = b"".join(parts)
    assert store.path(IMAGE).read_bytes() == data
    assert received == Received(
        size=len(data),
        virtual_size=len(data),
        checksum=hashlib.md5(data).hexdigest(),
        hash_value=hashlib.sha512(data).hexdigest(),
    )
    assert names(store) == [IMAGE]


def test_an_upload_over_the_limit_leaves_nothing(store: ImageStore) -> None:
    with pytest.raises(TooLarge):
        receive(store, *[bytes(1 << 20)] * 21)
    assert names(store) == []


def test_content_of_another_format_leaves_nothing(store: ImageStore) -> None:
    with pytest.raises(BadRequest):
        receive(store, b"QFI\xfb" + bytes(600))
    assert names(store) == []


def test_an_error_of_the_sender_leaves_nothing(store: ImageStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(5 << 20)
        yield bytes(5 << 20)
        raise BadRequest("cut short")

    async def work() -> None:
        async with store.upload(IMAGE) as upload:
            await upload.receive(broken(), "raw")

    with pytest.raises(BadRequest):
        asyncio.run(work())
    assert names(store) == []


def test_a_cancelled_upload_leaves_nothing_and_no_open_file(store: ImageStore) -> None:
    def is_open() -> bool:
        files = [Path("/proc/self/fd", number) for number in os.listdir("/proc/self/fd")]
        return any(str(path.readlink()).startswith(str(folder)) for path in files if path.is_symlink())

    async def run() -> None:
        under_way = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(7):
                yield bytes(1 << 20)
            under_way.set()
            await asyncio.Event().wait()

        async def work() -> None:
            async with store.upload(IMAGE) as upload:
                await upload.receive(endless(), "raw")

        task = asyncio.create_task(work())
        await under_way.wait()
        assert is_open()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    folder = store.path(IMAGE).parent
    asyncio.run(run())
    assert names(store) == []
    assert not is_open()


def test_the_loop_goes_on_while_an_upload_is_hashed(store: ImageStore) -> None:
    async def work() -> float:
        longest, last = 0.0, time.perf_counter()
        done = asyncio.Event()

        async def upload() -> None:
            async with store.upload(IMAGE) as place:
                await place.receive(pieces(*[bytes(4 << 20)] * 5), "raw")
            done.set()

        task = asyncio.create_task(upload())
        while not done.is_set():
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        await task
        return longest

    hashing_s = time.perf_counter()
    hashlib.sha512(bytes(20 << 20)).digest()
    hashing_s = time.perf_counter() - hashing_s
    bound_s = max(0.05, hashing_s)
    assert least_of(lambda: asyncio.run(work()), bound_s) < bound_s


def test_a_second_upload_of_an_image_is_refused_until_the_first_is_left(store: ImageStore) -> None:
    async def work() -> None:
        async with store.upload(IMAGE) as first:
            with pytest.raises(Conflict):
                store.upload(IMAGE)
            await first.receive(pieces(b"one"), "raw")
            with pytest.raises(Conflict):  # it has its name, but its record does not say so yet
                store.upload(IMAGE)
        async with store.upload(IMAGE) as second:
            await second.receive(pieces(b"two"), "raw")

    asyncio.run(work())
    assert store.path(IMAGE).read_bytes() == b"two"


def test_the_lock_of_a_process_that_died_is_free(store: ImageStore) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from nova_fast.image.store import ImageStore\n"
        f"upload = ImageStore(Path(sys.argv[1]), 1000).upload('{IMAGE}')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    folder = store.path(IMAGE).parent
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", script, folder], cwd=root, check=False, timeout=120)
    assert names(store) == [f".upload-{IMAGE}"]
    assert receive(store, b"again").size == 5
    assert names(store) == [IMAGE]


def test_the_sweep_takes_what_was_left_and_nothing_else(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.path(IMAGE).parent
    known, orphan, unfinished = IMAGE, str(uuid.uuid4()), f".upload-{uuid.uuid4()}"
    for name in (known, orphan, unfinished, "readme.txt", ".hidden"):
        (folder / name).write_bytes(b"x")
    assert store.sweep({known}) == [unfinished]  # the orphan is too young: its record may be on its way
    later = time.time() + 60
    monkeypatch.setattr(time, "time", lambda: later)
    assert store.sweep({known}) == [orphan]
    assert names(store) == sorted([known, "readme.txt", ".hidden"])


def test_the_sweep_leaves_an_upload_that_is_under_way(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.time() + 60
    monkeypatch.setattr(time, "time", lambda: later)

    async def work() -> None:
        async with store.upload(IMAGE) as upload:
            assert store.sweep(()) == []
            await upload.receive(pieces(b"x"), "raw")
            assert store.sweep(()) == []

    asyncio.run(work())
    assert store.sweep(()) == [IMAGE]


def test_a_reader_keeps_the_bytes_of_an_image_that_is_deleted_meanwhile(store: ImageStore) -> None:
    receive(store, b"0123456789")

    async def work() -> bytes:
        stream = await store.read(IMAGE, 2, 6)
        store.remove(IMAGE)
        return b"".join([piece async for piece in stream])

    assert asyncio.run(work()) == b"234567"
    assert names(store) == []


def test_reading_what_is_not_there_is_not_found(store: ImageStore) -> None:
    with pytest.raises(NotFound):
        asyncio.run(store.read(IMAGE, 0, 1))


@pytest.mark.parametrize("image_id", ["../../etc/passwd", "", "x", "/", f"{IMAGE}/.."])
def test_no_id_leads_out_of_the_folder(store: ImageStore, image_id: str) -> None:
    with pytest.raises(NotFound):
        store.path(image_id)


def test_a_full_disk_is_told_from_other_failures() -> None:
    full = storage_error(OSError(errno.ENOSPC, "No space left on device"))
    assert isinstance(full, Unavailable)
    assert full.code == "image_store_full"
    assert storage_error(OSError(errno.EIO, "Input/output error")).code == "image_store_failed"
