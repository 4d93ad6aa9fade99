"""``nova-fast``: reads the command line and calls the one module that the command needs."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from nova_fast import __version__
from nova_fast.config import Config, ConfigError, load
from nova_fast.model.errors import NovaFastError

DEFAULT_CONFIG_FILE = "nova-fast.toml"
EXIT_FAILED = 1
EXIT_USAGE = 2
_HELP = {
    "conductor": "run the conductor in the foreground: the one writer of the store",
    "scheduler": "run the scheduler in the foreground",
    "network": "run the network daemon of this host in the foreground",
    "compute": "run the compute daemon of this host in the foreground",
    "api": "run one API worker in the foreground",
}
_EPILOG = f"""\
The configuration is one TOML file: --config, else $NOVA_FAST_CONFIG, else ./{DEFAULT_CONFIG_FILE} if there is one, else
the defaults, which need no file. State, logs, credentials: the folder state_dir (./var).
"""


class _DaemonMain(Protocol):
    def __call__(self, config: Config, **options: object) -> int: ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 wrong usage or configuration."""
    options = parser().parse_args(arguments)
    if options.command == "version":
        print(f"nova-fast {__version__}")
        return 0
    try:
        config_file = find_config_file(options.config)
        return _run(options, load(config_file), config_file)
    except ConfigError as e:
        return _fail(str(e), None, EXIT_USAGE)
    except NovaFastError as e:
        return _fail(e.message, e.hint, EXIT_FAILED)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def parser() -> argparse.ArgumentParser:
    """The command line as argparse knows it."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", metavar="FILE", help="the configuration file (TOML)")
    top = argparse.ArgumentParser(
        prog="nova-fast",
        description="A whole compute cloud on this machine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    up = commands.add_parser("up", parents=[common], help="start the cloud, return when the API answers")
    up.add_argument("--foreground", action="store_true", help="stay, as a service manager wants it")
    down = commands.add_parser("down", parents=[common], help="stop the daemons; guests go on running")
    down.add_argument("--all", action="store_true", help="also shut down guests, remove networks, stop our libvirtd")
    commands.add_parser("status", parents=[common], help="show the daemons; exit code 0 only when all are up")
    _add_store_commands(commands, common)
    _add_placement_commands(commands, common)
    for name, text in _HELP.items():
        daemon = commands.add_parser(name, parents=[common], help=text)
        if name == "api":
            daemon.add_argument("--worker", type=_count, metavar="N", help="which worker this is, from 0")
        if name in ("compute", "network"):
            daemon.add_argument("--teardown", action="store_true", help="remove all it made on this machine, and end")
    key = commands.add_parser("sdk-key", parents=[common], help="let a program on another machine in, or no more")
    key.add_argument("what", choices=("allow", "forbid"))
    key.add_argument("file", metavar="FILE", help="the program's file: written by allow, read by forbid")
    key.add_argument("--user", default="", help="for whom the key speaks, by name or id; without: a token says who")
    key.add_argument("--project", default="", help="in which project, by name or id")
    openapi = commands.add_parser("openapi", parents=[common], help="print the OpenAPI document of an API")
    openapi.add_argument("face", choices=("identity", "compute", "image", "network", "placement"))
    commands.add_parser("version", help="print the version")
    supervise = commands.add_parser("supervise", parents=[common])  # what `up` runs in the background
    supervise.add_argument("name", choices=("cloud", "libvirt-host"))
    return top


def _add_store_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    check = commands.add_parser(
        "check",
        parents=[common],
        help="recount everything in the store; exit code 0 = all agrees, 1 = something does not",
    )
    check.add_argument("file", nargs="?", metavar="FILE", help="look at this backup and not at the store")
    check.add_argument("--json", action="store_true", help="print one JSON document")
    backup = commands.add_parser(
        "backup", parents=[common], help="copy the store of a running or stopped cloud to a file"
    )
    backup.add_argument("file", metavar="FILE")
    backup.add_argument("--force", action="store_true", help="replace the file if it is there")
    restore = commands.add_parser(
        "restore", parents=[common], help="put a backup in the place of the store; stop the cloud first"
    )
    restore.add_argument("file", metavar="FILE")


def _add_placement_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    explain = commands.add_parser("explain", parents=[common], help="say why a server is on its host, or on none")
    explain.add_argument("server", metavar="SERVER", help="its id, or its name when no other server has it")
    explain.add_argument("--json", action="store_true", help="print one JSON document")
    capacity = commands.add_parser(
        "capacity", parents=[common], help="say how many more servers of a flavor fit, and where"
    )
    capacity.add_argument("--flavor", required=True, metavar="FLAVOR", help="its id or name")
    capacity.add_argument("--zone", default="", metavar="ZONE", help="only in this availability zone")
    capacity.add_argument("--image", default="", metavar="IMAGE", help="id or name of the image they are to run")
    capacity.add_argument("--group-policy", default="", metavar="POLICY", help="all in one new group of this policy")
    capacity.add_argument(
        "--max-server-per-host", type=int, default=1, metavar="N", help="of the policy anti-affinity (1)"
    )
    capacity.add_argument("--json", action="store_true", help="print one JSON document")


def find_config_file(given: str | None) -> str | None:
    """The configuration file to read; ``None`` when the defaults do."""
    if given is not None:
        return given
    if from_environment := os.environ.get("NOVA_FAST_CONFIG"):
        return from_environment
    return DEFAULT_CONFIG_FILE if Path(DEFAULT_CONFIG_FILE).exists() else None


def _run(options: argparse.Namespace, config: Config, config_file: str | None) -> int:
    if options.command in _HELP:
        return _run_daemon(options, config)
    if options.command == "openapi":
        return _print_openapi(options.face)
    if options.command == "check":
        from nova_fast.cli.check import check

        return check(config, options.file, as_json=options.json)
    if options.command == "explain":
        from nova_fast.cli.explain import explain

        return explain(config, options.server, as_json=options.json)
    if options.command == "capacity":
        return _ask_capacity(options, config)
    if options.command in ("backup", "restore"):
        return _backup_or_restore(options, config)
    if options.command == "sdk-key":
        return _sdk_key(options, config)
    from nova_fast.cli import lifecycle

    cloud = lifecycle.Cloud(config, config_file)
    if options.command == "up":
        return lifecycle.up(cloud, foreground=options.foreground)
    if options.command == "down":
        return lifecycle.down(cloud, everything=options.all)
    if options.command == "supervise":
        return lifecycle.supervise(cloud, options.name)
    assert options.command == "status"
    from nova_fast.cli.status import status

    return status(cloud)


def _ask_capacity(options: argparse.Namespace, config: Config) -> int:
    from nova_fast.cli.capacity import capacity
    from nova_fast.model.tasks import AskCapacity

    ask = AskCapacity(
        flavor=options.flavor,
        zone=options.zone,
        image=options.image,
        group_policy=options.group_policy,
        max_servers_per_host=options.max_server_per_host,
    )
    return capacity(config, ask, as_json=options.json)


def _sdk_key(options: argparse.Namespace, config: Config) -> int:
    from nova_fast.cli import sdk

    if options.what == "allow":
        return sdk.allow_key(config, Path(options.file), options.user, options.project)
    return sdk.forbid_key(config, Path(options.file))


def _backup_or_restore(options: argparse.Namespace, config: Config) -> int:
    from nova_fast.cli import backups

    if options.command == "backup":
        return backups.backup(config, Path(options.file), force=options.force)
    return backups.restore(config, Path(options.file))


def _print_openapi(name: str) -> int:
    import msgspec

    from nova_fast.api.app import load_face
    from nova_fast.api.framework.openapi import document

    print(msgspec.json.format(msgspec.json.encode(document(load_face(name)))).decode())
    return 0


def _run_daemon(options: argparse.Namespace, config: Config) -> int:
    for folder in (config.state_path, config.run_path, config.log_path):
        folder.mkdir(parents=True, exist_ok=True)
    module = importlib.import_module(f"nova_fast.{options.command}.daemon")
    daemon = cast(_DaemonMain, module.main)
    if getattr(options, "teardown", False):
        return daemon(config, teardown=True)
    if getattr(options, "worker", None) is not None:
        return daemon(config, worker=options.worker)
    return daemon(config)


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _fail(message: str, hint: str | None, code: int) -> int:
    print(f"nova-fast: {message}", file=sys.stderr)
    if hint:
        print(f"  {hint}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
