"""``nova-fast backup`` and ``nova-fast restore``: the store as one file, and back.

A backup is of one moment of the running cloud. A restore happens while nothing runs: every daemon that has the store
open keeps it from being replaced, so none can go on with what it remembers of another past. It is the store only; what
else there is, and what a return to an older state means for guests, is said each time.
"""

from __future__ import annotations

import time
from pathlib import Path

from nova_fast import __version__
from nova_fast.cli.check import examine
from nova_fast.cli.lifecycle import exclusive, say
from nova_fast.config import Config
from nova_fast.model.errors import Conflict, Unavailable
from nova_fast.state.backup import Manifest, unpack_backup, write_backup
from nova_fast.state.replace import NotConfirmed, Replacement, replacement
from nova_fast.state.store import EngineError, Store, StoreError

_FINDINGS_TOLD = 10


def backup(config: Config, file: Path, *, force: bool = False) -> int:
    """Write a backup; returns the exit code. Raises NovaFastError; then there is no (new) file of this name."""
    begin = time.monotonic()
    try:
        store = Store.open(config.store_path, readonly=True)
        try:
            made = write_backup(store, file, version=__version__, made_at=_now("%Y-%m-%dT%H:%M:%SZ"), force=force)
        finally:
            store.close()
    except FileExistsError:
        raise Conflict(f"{file} is there already", hint="give another name, or --force to replace it") from None
    except (StoreError, EngineError, OSError) as error:
        raise Unavailable(f"no backup was made: {error}") from error
    say(f"{file}: {_described(made)}, {made.bytes >> 10} KiB in {time.monotonic() - begin:.1f} s")
    say("it holds secrets (password hashes, the key of the tokens): keep it as you keep those")
    _say_not_inside(config)
    return 0


def restore(config: Config, file: Path) -> int:
    """Put a backup in the place of the store; returns the exit code. Raises NovaFastError; then nothing has changed."""
    with exclusive(config):
        try:
            with replacement(config.store_path, _now("%Y%m%dT%H%M%SZ")) as new:
                made, kept = _restore(file, new)
        except NotConfirmed as error:
            raise Unavailable(str(error), hint="look at the disk, then restore again") from error
        except (StoreError, EngineError, OSError) as error:
            raise Unavailable(
                f"nothing was restored, and nothing has changed: {error}", hint=_hint(config, error)
            ) from error
    say(f"the store is that of {file} again: {_described(made)}")
    say(f"the store that was there is kept: {kept}" if kept else "there was no store before")
    say("at the next start hosts destroy guests, and the image store deletes images, that this state does not know;")
    say("servers whose guests are gone are shown as SHUTOFF")
    _say_not_inside(config)
    return 0


def _restore(file: Path, new: Replacement) -> tuple[Manifest, Path | None]:
    made = unpack_backup(file, new.folder)
    store = Store.open(new.folder)  # as the conductor would: fills the indexes that an older release did not have
    try:
        report = examine(store, None)
    finally:
        store.close()
    if report.generation != made.generation:
        raise StoreError(f"it says generation {made.generation} and holds generation {report.generation}")
    if report.found:
        told = "; ".join(finding.sentence for finding in report.findings[:_FINDINGS_TOLD])
        raise StoreError(f"{report.found} things in it do not agree: {told}")
    return made, new.swap()


def _described(made: Manifest) -> str:
    return f"generation {made.generation} of {made.made_at}, release {made.version}, schema {made.schema_version}"


def _say_not_inside(config: Config) -> None:
    state = config.state_path
    say(
        f"not inside: the bytes of images ({config.images_path}), guests' disks ({config.instances_path}), "
        f"and the admin's password and keys ({state / 'admin-password'}, {state / 'keys'})"
    )


def _hint(config: Config, error: Exception) -> str | None:
    in_use = isinstance(error, StoreError) and ("another process" in str(error) or "open" in str(error))
    return f"stop the cloud of {config.state_path} first: nova-fast down (guests go on)" if in_use else None


def _now(form: str) -> str:
    return time.strftime(form, time.gmtime())
