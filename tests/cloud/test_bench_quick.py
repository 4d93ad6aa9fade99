"""Everything that is published can still be measured: ``python -m bench --quick`` comes to its end."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .conftest import ROOT

pytestmark = pytest.mark.slow

TIMEOUT_S = 900  # it takes one minute where nothing else runs


def test_everything_can_still_be_measured() -> None:
    command = [sys.executable, "-m", "bench", "--quick"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as measuring:
        try:
            said, _ = measuring.communicate(timeout=TIMEOUT_S)
        except BaseException:
            measuring.terminate()  # it ends its clouds
            raise
    assert measuring.returncode == 0, said
    assert "RESULT name=" in said
