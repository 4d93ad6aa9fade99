"""A test's cloud ends by itself when its pytest was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nova_fast.cli import processes

from .conftest import ROOT, wait_for

pytestmark = pytest.mark.slow

KILLED = """
import time
from tests.cloud.conftest import new_cloud
with new_cloud(driver="fake") as cloud:
    cloud.up()
    print(cloud.folder, *cloud.daemons().values(), flush=True)
    time.sleep(600)
"""


def test_nothing_is_left_of_the_cloud_of_a_test_that_got_sigkill() -> None:
    test = subprocess.Popen(
        [sys.executable, "-c", KILLED], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert test.stdout is not None
    folder, *daemons = test.stdout.readline().split()
    test.stdout.close()
    alive = [identity for pid in daemons if (identity := processes.identify(int(pid)))]
    assert len(alive) == len(daemons) > 3
    os.killpg(test.pid, signal.SIGKILL)
    test.wait()
    wait_for("its daemons are gone", lambda: not any(map(processes.is_alive, alive)), 60)
    wait_for("its folder is gone", lambda: not Path(folder).exists(), 30)
