"""Writes ``nova_fast/model/placement_names.py`` from os-traits and os-resource-classes, which must be installed.

pip install os-traits os-resource-classes && python tools/placement_names.py
"""

from __future__ import annotations

import sys
import textwrap
from importlib.metadata import version
from pathlib import Path

FILE = Path(__file__).resolve().parent.parent / "nova_fast" / "model" / "placement_names.py"
HEAD = '''"""Traits and resource classes of every OpenStack cloud: os-traits {traits}, os-resource-classes {classes}.

Made by ``tools/placement_names.py`` from those packages. They are lists of names that only grow, and of such a package
a cloud needs at run time nothing but the list: docs/decisions/placement.md.
"""


def _words(text: str) -> list[str]:
    return text.split()


'''


def words(names: list[str]) -> str:
    return textwrap.fill(" ".join(names), 112, initial_indent="        ", subsequent_indent="        ")


def main() -> int:
    import os_resource_classes
    import os_traits

    parts = [HEAD.format(traits=version("os-traits"), classes=version("os-resource-classes"))]
    for name, kind, names in (
        ("RESOURCE_CLASSES", "tuple", os_resource_classes.STANDARDS),
        ("TRAITS", "frozenset", sorted(os_traits.get_traits())),
    ):
        of = "str, ..." if kind == "tuple" else "str"
        parts.append(f'{name}: {kind}[{of}] = {kind}(\n    _words("""\n{words(names)}\n    """)\n)\n\n')
    FILE.write_text("".join(parts).rstrip("\n") + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
