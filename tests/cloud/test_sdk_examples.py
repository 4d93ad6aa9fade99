"""What we show people works: the programs in ``examples/`` and the examples in docstrings, against a real cloud."""

from __future__ import annotations

import ast
import asyncio
import doctest
import inspect
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import uvloop

from nova_fast.client.aio import client as aio_client
from nova_fast.client.aio import servers as aio_servers
from nova_fast.client.sync import client as sync_client
from nova_fast.client.sync import servers as sync_servers
from tests.lengths import repeats

from .conftest import ROOT, Cloud, run
from .sdk_cloud import sdk_cloud

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples"
PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name not in ("common.py", "ci_fixture.py"))


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with sdk_cloud() as cloud:
        yield cloud


def environment(cloud: Cloud) -> dict[str, str]:
    return {**os.environ, "NOVA_FAST_SDK_FILE": str(cloud.state / "sdk.json"), "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_runs(cloud: Cloud, name: str) -> None:
    arguments = [str(repeats(500, 10_000))] if name == "ten_thousand.py" else []
    printed = run(sys.executable, str(EXAMPLES / name), *arguments, env=environment(cloud))
    assert printed.strip()


def test_the_fixture_for_tests_works(cloud: Cloud) -> None:
    printed = run(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLES / "ci_fixture.py"),
        env=environment(cloud), cwd=EXAMPLES,
    )  # fmt: skip
    assert "2 passed" in printed


def test_every_example_is_in_the_list() -> None:
    told = (EXAMPLES / "README.md").read_text()
    assert all(f"`{path.name}`" in told for path in EXAMPLES.glob("*.py") if path.name != "common.py")


@pytest.mark.parametrize("module", [sync_client, sync_servers, aio_client, aio_servers], ids=lambda m: m.__name__)
def test_docstrings_say_what_happens(cloud: Cloud, module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOVA_FAST_SDK_FILE", str(cloud.state / "sdk.json"))
    tests = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    assert tests, "no example in any docstring"
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for test in tests:
            outcome: list[str] = []
            AwaitingRunner(runner).run(test, out=outcome.append, clear_globs=False)
            assert not outcome, "".join(outcome)


class AwaitingRunner(doctest.DocTestRunner):
    """Runs examples that await something at their top level, as in a notebook."""

    def __init__(self, runner: asyncio.Runner) -> None:
        super().__init__(optionflags=doctest.ELLIPSIS)
        self._runner = runner

    def run(self, test: doctest.DocTest, *arguments: Any, **options: Any) -> Any:
        def execute(code: Any, names: dict[str, Any], *_: Any) -> None:
            found = eval(code, names)
            if inspect.iscoroutine(found):
                self._runner.run(found)

        def compiled(source: str, name: str, mode: str, flags: int = 0, *_: Any) -> Any:
            return compile(source, name, mode, flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True)

        patched = vars(doctest)
        patched["exec"], patched["compile"] = execute, compiled
        try:
            return super().run(test, *arguments, **options)
        finally:
            del patched["exec"], patched["compile"]
