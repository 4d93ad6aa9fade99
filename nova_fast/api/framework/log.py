"""The access log: one line for each answer, without query strings, headers or bodies, so without secrets."""

from __future__ import annotations

import logging
from typing import Any

access = logging.getLogger("nova_fast.api.access")
faults = logging.getLogger("nova_fast.api")


def log_access(face: str, scope: dict[str, Any], status: int, ms: float, who: tuple[str, str, str, str]) -> None:
    """Write the line; ``who`` is request id, global request id, user id, project id. The path stays percent-encoded."""
    if access.isEnabledFor(logging.INFO):
        request_id, global_id, user_id, project_id = who
        text = (
            f"face={face} request={request_id} method={scope['method']} path={scope['raw_path'].decode('latin-1')} "
            f"status={status} ms={ms:.1f} user={user_id or '-'} project={project_id or '-'} global={global_id or '-'}"
        )
        # PERF: a record made here, because access.info() walks the stack to find its caller, which nobody reads
        access.handle(logging.LogRecord(access.name, logging.INFO, __file__, 0, text, None, None))
