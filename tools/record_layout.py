"""The fields of everything the store keeps, in their order: the format on disk.

    tools/record_layout.py            prints what the code says
    tools/record_layout.py --update   writes down new records and new fields; refuses any other change

``tests/unit/test_record_layout.py`` compares the file with the code.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from pathlib import Path

import msgspec

import nova_fast.model
from nova_fast.model.base import Message, Record, Value

LAYOUT_FILE = Path(__file__).resolve().parent.parent / "tests" / "unit" / "record_layout.json"
COMMANDS = "nova_fast.model.commands."
Layout = dict[str, list[str]]


def present_layout() -> Layout:
    """Fields by record: of every Record, every Value a record may hold, every Message (tasks are stored too).

    Commands and their answers live only as long as a call: they are left out.
    """
    for module in pkgutil.walk_packages(nova_fast.model.__path__, "nova_fast.model."):
        importlib.import_module(module.name)
    layout = {}
    for base in (Record, Value, Message):
        for cls in _subclasses(base):
            if cls.__module__.startswith("nova_fast.model.") and not cls.__module__.startswith(COMMANDS):
                layout[f"{cls.__module__.removeprefix('nova_fast.model.')}.{cls.__name__}"] = list(
                    cls.__struct_fields__
                )
    return dict(sorted(layout.items()))


def recorded_layout() -> Layout:
    """What was written down last."""
    layout: Layout = json.loads(LAYOUT_FILE.read_text()) if LAYOUT_FILE.exists() else {}
    return layout


def violations(recorded: Layout, present: Layout) -> list[str]:
    """Every way in which the code can no longer read what an earlier version wrote."""
    found = []
    for name, fields in recorded.items():
        if name not in present:
            found.append(f"{name} is gone: stored rows can no longer be read")
        elif present[name][: len(fields)] != fields:
            found.append(f"{name}: fields were inserted, removed or reordered: {fields} -> {present[name]}")
    return found


def _subclasses(base: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    direct = base.__subclasses__()
    return direct + [cls for child in direct for cls in _subclasses(child)]


def main() -> int:
    present = present_layout()
    if "--update" not in sys.argv[1:]:
        print(json.dumps(present, indent=1))
        return 0
    if found := violations(recorded_layout(), present):
        print("\n".join(found), file=sys.stderr)
        print(
            f"Not written. If no store of the old format exists anywhere, edit {LAYOUT_FILE} by hand.", file=sys.stderr
        )
        return 1
    LAYOUT_FILE.write_text(json.dumps(present, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
