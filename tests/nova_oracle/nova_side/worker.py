"""``python -m tests.nova_oracle.nova_side.worker``, inside Nova's environment: a case a line in, an answer a line out.

Both are JSON. The first line out says which Nova this is. What no line should have caused (a case of a wrong shape)
comes back as ``{"broken": traceback}``, and the worker goes on.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from importlib.metadata import version

from .judge import judge, prepare_filters
from .world import prepare


def main() -> None:
    answers = sys.stdout
    sys.stdout = sys.stderr  # nothing that Nova prints may get between the answers
    logging.disable(logging.CRITICAL)
    prepare()
    prepare_filters()
    print(json.dumps({"nova": version("nova")}), file=answers, flush=True)
    for line in sys.stdin:
        try:
            answer = judge(json.loads(line))
        except Exception:
            answer = {"broken": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
