"""Nova as a process that answers: starts the worker in Nova's environment and asks it about cases."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
ENVIRONMENT = Path(os.environ.get("NOVA_ENVIRONMENT") or TOP / ".venv-nova")

Case = dict[str, Any]
Answer = dict[str, Any]


def missing() -> str:
    """Why there is no Nova to ask; "" when there is one."""
    python = ENVIRONMENT / "bin" / "python"
    return "" if python.exists() else f"there is no Nova in {ENVIRONMENT}: make nova-environment"


class Nova:
    """One worker. Several cases may be under way, so that both sides work at the same time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [str(ENVIRONMENT / "bin" / "python"), "-W", "ignore", "-m", "tests.nova_oracle.nova_side.worker"],
            cwd=TOP,
            env={**os.environ, "PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.version = str(self.answer()["nova"])

    def __enter__(self) -> Nova:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def ask(self, case: Case) -> None:
        """Hand over a case; ``answer`` gives the answers in the same order."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(case) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Answer:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "Nova's worker has ended"
        answer: Answer = json.loads(line)
        assert "broken" not in answer, answer.get("broken")
        return answer

    def judge(self, case: Case) -> Answer:
        self.ask(case)
        return self.answer()
