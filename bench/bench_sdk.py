"""The ZeroMQ client SDK (``nova_fast.client``) against the same cloud: reads, pipelined.

python -m bench sdk
"""

from __future__ import annotations

import importlib.util

from bench.results import not_measured


def main(*, quick: bool = False) -> None:
    if importlib.util.find_spec("nova_fast.client") is None:
        not_measured("sdk_reads_pipelined", "there is no nova_fast.client in this tree")
        return
    from bench import sdk_load

    sdk_load.main(quick=quick)
