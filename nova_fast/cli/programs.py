"""Which processes make up the cloud of this machine, and in which order they start."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

import nova_fast
from nova_fast.config import Config

DAEMONS = ("conductor", "scheduler", "network", "compute", "api")


class Program(msgspec.Struct, frozen=True):
    """A process to keep running."""

    name: str
    argv: tuple[str, ...]
    group: int  # groups start in order and stop in reverse


def own_argv(*arguments: str) -> tuple[str, ...]:
    """The command line that runs ``nova-fast`` again, whatever folder we are in and however it was installed."""
    return (sys.executable, "-P", "-m", "nova_fast.cli.main", *arguments)


def own_environment() -> dict[str, str]:
    """The environment for :func:`own_argv`: a checkout that was never installed finds itself too."""
    environment = dict(os.environ)
    parent = Path(nova_fast.__file__).resolve().parent.parent
    if parent.name not in ("site-packages", "dist-packages"):
        others = [p for p in environment.get("PYTHONPATH", "").split(":") if p and p != str(parent)]
        environment["PYTHONPATH"] = ":".join([str(parent), *others])
    return environment


def config_arguments(config_file: str | None) -> tuple[str, ...]:
    return ("--config", str(Path(config_file).resolve())) if config_file else ()


def cloud_programs(config: Config, config_file: str | None) -> list[Program]:
    """The daemons of this machine; the conductor first, because everybody else speaks to it."""
    common = config_arguments(config_file)
    daemons = [
        Program(name, own_argv(name, *common), group)
        for name, group in (("conductor", 0), ("scheduler", 1), ("network", 1), ("compute", 1))
    ]
    workers = [
        Program(f"api-{number}", own_argv("api", "--worker", str(number), *common), 2)
        for number in range(config.worker_count)
    ]
    return daemons + workers
