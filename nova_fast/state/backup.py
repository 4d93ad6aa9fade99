"""A backup: one snapshot of the store as one file, which is either whole and checked or has not its name.

The file begins with a page of text (a line that says what it is, then a manifest as JSON, padded with spaces), so
``head -c 4096`` shows it; behind it is an LMDB file without free pages. The SHA-256 is of the manifest with an empty
``sha256``, then of the LMDB file. It holds secrets (password hashes, the key of the tokens): only its owner may read
it.

Needs py-lmdb's own engine, which copies the state of a given transaction (a build with LMDB_PURE cannot).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from nova_fast.files import sync_folder
from nova_fast.state import schema
from nova_fast.state.store import Snapshot, Store, StoreError

FORMAT = 1
HEAD_BYTES = 4096
_MAGIC = b"nova-fast backup\n"
_PIECE_BYTES = 1 << 20


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup is."""

    format: int = FORMAT
    version: str  # the release that made it
    schema_version: int
    generation: int  # the last event it holds
    made_at: str  # UTC, ISO 8601
    bytes: int = 0  # of the LMDB file
    sha256: str = ""


def write_backup(store: Store, path: Path, *, version: str, made_at: str, force: bool = False) -> Manifest:
    """Copy what the store holds now to a file. Raises StoreError, OSError; then no file has the name.

    ``made_at`` is the time of now for the manifest. Raises FileExistsError unless ``force``.
    """
    if path.exists() and not force:
        raise FileExistsError(f"{path} is there already")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.unlink(missing_ok=True)
    try:
        with store.snapshot() as snapshot, _new_file(temporary) as file:
            manifest = Manifest(
                version=version,
                schema_version=schema.SCHEMA_VERSION,
                generation=snapshot.generation(),
                made_at=made_at,
            )
            manifest = _write(store, snapshot, file, manifest)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return manifest


def read_manifest(path: Path) -> Manifest:
    """What a backup says of itself. Raises StoreError when it is none or of a newer release, OSError."""
    with path.open("rb") as file:
        return _read_head(path, file)


def unpack_backup(path: Path, folder: Path) -> Manifest:
    """Make a new folder with the store of a backup, synced. Raises StoreError when it is not right, OSError."""
    folder.mkdir(mode=0o700, parents=True)
    with path.open("rb") as source, _new_file(folder / "data.mdb") as target:
        manifest = _read_head(path, source)
        digest, count = _digest(manifest), 0
        while piece := source.read(_PIECE_BYTES):
            digest.update(piece)
            count += len(piece)
            target.write(piece)
        if count != manifest.bytes:
            raise StoreError(f"the backup {path} is not whole: {count} of {manifest.bytes} bytes are there")
        if digest.hexdigest() != manifest.sha256:
            raise StoreError(f"the backup {path} is damaged: its checksum is not that of its content")
    sync_folder(folder)
    return manifest


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A new file that only its owner reads, on the disk when the block ends."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _write(store: Store, snapshot: Snapshot, file: BinaryIO, manifest: Manifest) -> Manifest:
    digest, count = _digest(manifest), 0
    file.write(bytes(HEAD_BYTES))
    for piece in _pieces(store, snapshot):
        digest.update(piece)
        count += len(piece)
        file.write(piece)
    # The number of bytes is known only now; a wrong one is found by counting, so the checksum need not hold it.
    manifest = msgspec.structs.replace(manifest, bytes=count, sha256=digest.hexdigest())
    head = _MAGIC + msgspec.json.encode(manifest)
    assert len(head) < HEAD_BYTES
    file.seek(0)
    file.write(head.ljust(HEAD_BYTES - 1) + b"\n")
    return manifest


def _pieces(store: Store, snapshot: Snapshot) -> Iterator[bytes]:
    """The copy as it is made; the engine writes it into a pipe."""
    reading, writing = os.pipe()
    failures: list[StoreError] = []

    def copy() -> None:
        try:
            store.copy(snapshot, writing)
        except StoreError as error:
            failures.append(error)
        finally:
            os.close(writing)

    thread = threading.Thread(target=copy, name="backup")
    thread.start()
    try:
        while piece := os.read(reading, _PIECE_BYTES):
            yield piece
    finally:
        os.close(reading)  # whoever still writes gets EPIPE
        thread.join()
    if failures:
        raise failures[0]


def _digest(manifest: Manifest) -> hashlib._Hash:
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(manifest, bytes=0, sha256="")))


def _read_head(path: Path, file: BinaryIO) -> Manifest:
    head = file.read(HEAD_BYTES)
    if not head.startswith(_MAGIC):
        raise StoreError(f"{path} is no backup of nova-fast")
    try:
        manifest = msgspec.json.decode(head.removeprefix(_MAGIC), type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        raise StoreError(f"the backup {path} is damaged: its first page cannot be read") from e
    if manifest.format > FORMAT or manifest.schema_version > schema.SCHEMA_VERSION:
        raise StoreError(
            f"the backup {path} was made by a newer release ({manifest.version}, schema {manifest.schema_version})"
        )
    return manifest
