"""``nova-fast check``: recount everything in the store and say what does not agree.

It reads one snapshot, so a running cloud may go on; it changes nothing, and there is no command that repairs. While a
snapshot is held no page is used again and the store's file grows with every write: a large store is copied first, which
takes seconds where counting takes minutes, and the copy is counted.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from nova_fast.config import Config
from nova_fast.image.store import stored_bytes
from nova_fast.model.images import Image, ImageStatus
from nova_fast.queries.check.finding import Finding
from nova_fast.queries.check.recount import recount
from nova_fast.state import schema as tables
from nova_fast.state.backup import unpack_backup
from nova_fast.state.store import EngineError, Store, StoreError
from nova_fast.state.verify import find, readable

FINDINGS_MAX = 1000  # kept and told; the others are counted
COPIED_ABOVE_BYTES = 1 << 30  # about 350,000 servers; 100,000 are 300 MiB and are counted in 17 s
EXIT_FOUND, EXIT_NOT_CHECKED = 1, 2
_WITH_FILE = (ImageStatus.ACTIVE, ImageStatus.DEACTIVATED)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found."""

    store: str  # the folder or the file
    generation: int
    records: int
    seconds: float
    found: int
    findings: list[Finding]  # at most FINDINGS_MAX of them


def check(config: Config, file: str | None, *, as_json: bool) -> int:
    """Check the store, or a backup. Returns 0 when everything agrees, 1 when not, 2 when it cannot be read."""
    try:
        if file is None:
            report = _check_store(config)
        else:
            with unpacked(Path(file)) as store:
                report = msgspec.structs.replace(examine(store, None), store=file)
    except (StoreError, EngineError, OSError) as error:
        print(f"nova-fast: cannot check: {error}", file=sys.stderr)
        return EXIT_NOT_CHECKED
    print(msgspec.json.format(msgspec.json.encode(report)).decode() if as_json else _text(report))
    return EXIT_FOUND if report.found else 0


def examine(store: Store, images: Path | None) -> Report:
    """Recount a store; with the folder of the images also whether each image has its bytes. Raises EngineError."""
    begin = time.monotonic()
    with store.snapshot() as snapshot:
        found = recount(snapshot)
        findings = list(itertools.islice(found, FINDINGS_MAX))
        count = len(findings) + sum(1 for _ in found)
        records = sum(snapshot.size(table) for table in tables.TABLES)
        generation = snapshot.generation()
    if images is not None:
        missing = list(_images_without_bytes(store, images))
        count += len(missing)
        findings += missing
    return Report(
        store=str(store.path),
        generation=generation,
        records=records,
        seconds=round(time.monotonic() - begin, 3),
        found=count,
        findings=findings,
    )


def _check_store(config: Config) -> Report:
    with contextlib.ExitStack() as stack:
        store = Store.open(config.store_path, readonly=True)
        stack.callback(store.close)
        if (config.store_path / "data.mdb").stat().st_size <= COPIED_ABOVE_BYTES:
            return examine(store, config.images_path)
        copy = stack.enter_context(_copied(store, config.state_path))
        report = examine(copy, None)
        missing = list(_images_without_bytes(store, config.images_path))
        return msgspec.structs.replace(
            report,
            store=str(store.path),
            found=report.found + len(missing),
            findings=(report.findings + missing)[:FINDINGS_MAX],
        )


@contextlib.contextmanager
def _copied(store: Store, beside: Path) -> Iterator[Store]:
    """What a store holds now, as a store of its own. Raises StoreError, OSError."""
    with tempfile.TemporaryDirectory(prefix=".check.", dir=beside) as folder:
        with store.snapshot() as snapshot, open(Path(folder) / "data.mdb", "wb") as file:
            store.copy(snapshot, file.fileno())
        copy = Store.open(Path(folder), readonly=True)
    # SAFETY: open files stay when their names go, so nothing is left behind however this process ends.
    try:
        yield copy
    finally:
        copy.close()


@contextlib.contextmanager
def unpacked(file: Path) -> Iterator[Store]:
    """The store of a backup, unpacked beside it for a while. Raises StoreError, OSError.

    It is opened for writing, as the conductor would: that fills the indexes that its release did not have.
    """
    folder = Path(tempfile.mkdtemp(prefix=f".{file.name}.", dir=file.parent))
    try:
        unpack_backup(file, folder / "store")
        store = Store.open(folder / "store")
        try:
            yield store
        finally:
            store.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _images_without_bytes(store: Store, folder: Path) -> Iterator[Finding]:
    """Images that should have a file of their size and have not.

    One that is deleted while we look is none: so each is read again after its file was missed.
    """
    with store.snapshot() as snapshot:
        suspects = [image.id for image in readable(snapshot, tables.IMAGES) if _lacks(image, folder)]
    with store.snapshot() as snapshot:
        for image_id in suspects:
            image = find(snapshot, tables.IMAGES, image_id)
            if image is not None and _lacks(image, folder):
                there = stored_bytes(folder, image_id)
                what = "no file" if there is None else f"a file of {there} bytes"
                sentence = f"image {image_id} is {image.status} with {image.size} bytes, and has {what}"
                yield Finding("images", image_id, sentence)


def _lacks(image: Image, folder: Path) -> bool:
    return image.status in _WITH_FILE and stored_bytes(folder, image.id) != image.size


def _text(report: Report) -> str:
    lines = [f"{finding.subject}: {finding.sentence}" for finding in report.findings]
    if report.found > len(lines):
        lines.append(f"… and {report.found - len(lines)} more")
    said = "everything agrees" if not report.found else f"{report.found} things do not agree"
    what = f"{report.records} records at generation {report.generation} in {report.seconds:.1f} s"
    return "\n".join([*lines, f"nova-fast: {said} ({report.store}: {what})"])
