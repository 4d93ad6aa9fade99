"""Many commands of the real openstack CLI in one process: starting it costs more than most commands do.

    python openstack_session.py < lines

Each line is the argument list of a command as JSON; the answer to it is a line ``[exit code, stdout, stderr]``.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any


class Session:
    """The other end: one process that runs commands for a test."""

    def __init__(self, environment: Mapping[str, str], timeout_s: float = 180) -> None:
        self._timeout_s = timeout_s  # of a command
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait(10)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and error of a command."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        watch = threading.Timer(self._timeout_s, self._process.kill)
        watch.start()
        answer = self._process.stdout.readline()
        watch.cancel()
        assert answer, f"the CLI died, or took more than {self._timeout_s:g} s, at {arguments}"
        code, out, err = json.loads(answer)
        return code, out, err

    def text(self, *arguments: str) -> str:
        """What a command prints that must succeed."""
        code, out, err = self.run(*arguments)
        assert code == 0, f"{arguments} ended with {code}:\n{out}\n{err}"
        return out

    def openstack(self, *arguments: str) -> Any:
        """The same as JSON."""
        return json.loads(self.text(*arguments, "-f", "json"))

    def refused(self, *arguments: str) -> str:
        """What is said of a command that must fail."""
        code, out, err = self.run(*arguments)
        assert code != 0, f"{arguments} should have been refused:\n{out}"
        return err + out


def main() -> None:
    from openstackclient.shell import OpenStackShell

    answers = sys.stdout
    for line in sys.stdin:
        out, err = io.StringIO(), io.StringIO()
        sys.stdout, sys.stderr = out, err
        try:
            shell = OpenStackShell()
            shell.stdout, shell.stderr = out, err
            code = shell.run(json.loads(line))
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        answers.write(json.dumps([code, out.getvalue(), err.getvalue()]) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
