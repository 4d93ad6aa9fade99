"""Log lines never wait for the disk, and those that are lost are told."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nova_fast.logs import WAITING_CHARS_MAX, LogStream

PIPE_BYTES = 64 << 10


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def read_until(descriptor: int, text: str) -> str:
    found = ""
    while text not in found:
        found += os.read(descriptor, 1 << 20).decode()
    return found


def test_lines_of_many_writes_arrive_in_order(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    stream = LogStream(descriptor)
    for number in range(5_000):
        stream.write(f"{number}\n")
    stream.close()
    stream.write("behind the end\n")
    os.close(descriptor)
    assert (tmp_path / "log").read_text().splitlines() == [*map(str, range(5_000)), "behind the end"]


def test_a_disk_that_hangs_delays_nobody_and_what_was_lost_is_told(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    stream = LogStream(writer)
    line = "x" * 999 + "\n"
    many = 2 * WAITING_CHARS_MAX // len(line)
    begin_s = time.monotonic()
    for _ in range(many):
        stream.write(line)
    assert time.monotonic() - begin_s < 5  # nobody reads, so nothing after the first 64 KiB can be written
    found = read_until(reader, "are lost: the disk does not take them\n")
    stream.write("and on\n")
    found += read_until(reader, "and on\n")
    lost = [int(number) for number in re.findall(r"(\d+) lines of the log are lost", found)]
    assert sum(lost) > many // 4
    assert found.count(line) + sum(lost) == many
    stream.close()


def test_a_full_disk_ends_nothing(monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    full = True

    def write(descriptor: int, data: bytes) -> int:
        if descriptor == writer and full:
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    real = os.write
    monkeypatch.setattr(os, "write", write)
    stream = LogStream(writer)
    stream.write("one\ntwo\n")
    while stream._lost < 2:
        time.sleep(0.001)
    full = False
    stream.write("three\n")
    found = read_until(reader, "device\n")
    assert found.startswith("three\n")
    assert "2 lines of the log are lost: [Errno 28] No space left on device\n" in found
    stream.close()


def test_a_line_before_the_end_of_the_process_is_written() -> None:
    program = "from nova_fast import logs; logs.stderr.write('last words\\n'); raise SystemExit(3)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (3, "last words\n")
