"""The blocking client is the asyncio client without ``async``: one is made from the other."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType

from nova_fast import client

ROOT = Path(__file__).resolve().parents[3]


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("twins", ROOT / "tools" / "twins.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_twins_are_what_the_tool_makes() -> None:
    made: dict[Path, str] = tool().twins()
    assert {path.name for path in made} == {path.name for path in (ROOT / "nova_fast/client/sync").glob("*.py")}
    old = [path.name for path, text in made.items() if path.read_text() != text]
    assert old == [], "run: python tools/twins.py --update"


def test_both_clients_can_do_the_same() -> None:
    for both in ((client.AsyncClient, client.Client), (client.AsyncWatch, client.Watch)):
        first, second = (methods(one) for one in both)
        assert first == second and first


def methods(kind: type) -> dict[str, list[str]]:
    """The public methods of a class and their parameters."""
    found = inspect.getmembers(kind, inspect.isroutine)
    return {name: list(inspect.signature(one).parameters) for name, one in found if not name.startswith("_")}
