"""Every bound of the hub that is not an option of the cloud.

They exist so that nothing can grow without end: a peer that floods, stops reading or lies costs a known amount of
memory and nobody else's time. Operators never need them; tests make them small.
"""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on queues, caches, messages and timers."""

    waiting_calls_max: int = 4096  # calls to one peer that wait for a credit
    running_calls_max: int = 2048  # calls of one peer that run here at once
    outbox_frames_max: int = 2048  # frames kept for a peer that does not read
    answers_max: int = 4096  # finished answers remembered for each peer
    answers_bytes_max: int = 32 << 20
    answers_age_s: float = 600.0
    message_bytes_max: int = 64 << 20
    pipe_frames: int = 0  # kept by ZeroMQ in each direction of a link; 0 = all that an honest peer can have under way
    peers_max: int = 20_000
    faults_max: int = 64  # frames of one peer that break the rules, between two ticks
    barred_s: float = 1.0  # a peer that was cut is not let in for so long; doubles each time
    barred_s_max: float = 30.0
    forget_after_s: float = 3600.0  # a peer that is down for so long is forgotten
    resend_after_s: float = 10.0  # first resend of a call without an answer; doubles each time
    resend_after_s_max: float = 60.0
    hello_retry_s: float = 0.25
    returns_per_s: float = 250.0  # peers of those who wait to return when they have lost the hub
    reopen_after_s: float = 3.0  # without a welcome for so long, the socket is made anew; doubles each time
    reopen_after_s_max: float = 24.0
    linger_ms: int = 200
    event_window: int = 64  # batches a subscriber may leave unacknowledged
    event_batch: int = 256  # events in a batch
    event_batch_bytes: int = 1 << 20


class Counters(msgspec.Struct, kw_only=True):
    """What went wrong without hurting anybody; each only grows."""

    malformed: int = 0  # frames dropped because they cannot be read
    cut: int = 0  # connections cut because their peer broke the rules
    refused: int = 0  # HELLOs and CURVE handshakes refused
    replaced: int = 0  # peers that lost their name to a newer process
    late_answers: int = 0  # answers that nobody waits for any more
    expired: int = 0  # calls that arrived after their deadline
    repeated: int = 0  # calls recognised by their id and not run again
    dropped: int = 0  # frames dropped because a peer does not read; the calls are resent
    unreachable: int = 0  # frames for a peer whose link was gone; the calls are resent
