"""Queues that most peers never need.

PERF: an empty deque has 760 bytes, and five of them for each of 10,000 peers were 38 MB. So a queue begins as the one
empty queue that is everybody's, and whoever puts something in makes room first.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, TypeVar

T = TypeVar("T")

EMPTY: Final[deque[Any]] = deque(maxlen=0)  # what is put in would be lost


def with_room(queue: deque[T]) -> deque[T]:
    """The queue itself, or a new one in place of the empty queue."""
    return deque() if queue is EMPTY else queue
