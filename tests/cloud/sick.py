"""A machine that falls ill under a running cloud and gets well: ``faults.c`` in every daemon, or a small disk."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Cloud

_CONTROL = struct.Struct("=qqq")
SOURCE = Path(__file__).with_name("faults.c")


class Faults:
    """What the daemons of one cloud suffer from."""

    def __init__(self, folder: Path, under: Path) -> None:
        self.library = folder / "faults.so"
        self.control = folder / "faults"
        self.under = under
        self.error, self.clock_offset_s, self.only_synced = 0, 0, False
        self.set()
        build = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(self.library)]
        subprocess.run([*build, str(SOURCE), "-ldl"], check=True, timeout=60)

    def set(self, *, error: int = 0, clock_offset_s: int = 0, only_synced: bool = False) -> None:
        """From now on: this errno for whatever changes files, and a clock so far ahead. Nothing given: healthy."""
        descriptor = os.open(self.control, os.O_WRONLY | os.O_CREAT, 0o644)
        os.pwrite(descriptor, _CONTROL.pack(error, clock_offset_s, only_synced), 0)
        os.close(descriptor)

    def start(self, cloud: Cloud) -> None:
        """Start the cloud with the faults in every daemon."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LD_PRELOAD", str(self.library))
            patch.setenv("FAULTS_CONTROL", str(self.control))
            patch.setenv("FAULTS_UNDER", str(self.under))
            cloud.up()


@contextlib.contextmanager
def small_disk(place: Path, size_mib: int) -> Iterator[None]:
    """A file system of its own, so small that it is soon full."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode=755", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> Path:
    """Use up the last byte of a disk; the file that does it."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler
