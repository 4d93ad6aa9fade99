"""Makes the blocking client from the asyncio client: the same methods without ``async``, ``await`` and ``Async…``.

    python tools/twins.py --update

A test holds the twins to each other.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "nova_fast" / "client" / "aio"
TWIN = ROOT / "nova_fast" / "client" / "sync"
RUFF = Path(sys.executable).parent / "ruff"

HEAD = '"""The blocking client, by nouns: made from ``nova_fast.client.aio`` by ``tools/twins.py``."""\n'
_RULES = (
    (r"from nova_fast\.client\.core import AsyncCore", "from nova_fast.client.bridge import Core"),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsync([A-Z])", r"\1"),
    (r"\bclient\.aio\b", "client.sync"),
    (r"__a(enter|exit|iter|next)__", r"__\1__"),
    (r"for (\w+) in rows:\n +yield \1\n", "yield from rows\n"),
    (r"\bAn? asyncio\b", "A blocking"),
)


def twin(source: Path) -> str:
    """The blocking twin of a file."""
    if source.name == "__init__.py":
        return HEAD
    text = source.read_text()
    for pattern, put in _RULES:
        text = re.sub(pattern, put, text)
    for command in (("check", "--select", "I", "--fix", "--quiet"), ("format", "--quiet")):
        name = str(TWIN / source.name)
        done = subprocess.run(
            [RUFF, *command, "--stdin-filename", name, "-"], input=text, capture_output=True, text=True, check=True,
            cwd=ROOT, timeout=60,
        )  # fmt: skip
        text = done.stdout
    return text


def twins() -> dict[Path, str]:
    """Each twin and what it must hold."""
    return {TWIN / source.name: twin(source) for source in sorted(SOURCE.glob("*.py"))}


def main() -> int:
    for path, text in twins().items():
        if "--update" in sys.argv:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
        else:
            print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
