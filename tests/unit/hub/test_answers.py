"""How long answers are remembered: as promised, and never much longer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nova_fast.hub.answers import Answers
from nova_fast.hub.limits import Limits

LIMITS = Limits(answers_max=20, answers_bytes_max=2_000, answers_age_s=100.0)
TICK_S = 10.0


def remembered(answers: Answers) -> dict[bytes, bytes]:
    return {**answers._older, **answers._newer}


@given(st.lists(st.tuples(st.floats(0, 40), st.integers(1, 300)), max_size=120))
def test_the_newest_are_kept_and_the_rest_is_bounded(calls: list[tuple[float, int]]) -> None:
    answers = Answers(LIMITS)
    now_s = next_tick_s = 0.0
    told: list[tuple[float, bytes, bytes]] = []  # when, id, frame
    for number, (pause_s, size) in enumerate(calls):
        now_s += pause_s
        while next_tick_s <= now_s:
            answers.forget_old(next_tick_s)
            next_tick_s += TICK_S
        call_id, frame = b"%d" % number, b"x" * size
        answers.add(call_id, frame, now_s)
        told.append((now_s, call_id, frame))
        kept = remembered(answers)
        assert len(kept) == len(answers) <= LIMITS.answers_max
        assert sum(map(len, kept.values())) <= LIMITS.answers_bytes_max + 300
        bytes_ = 0
        for count, (at_s, known, frame) in enumerate(reversed(told), 1):
            bytes_ += len(frame)
            age_s = now_s - at_s
            if count <= LIMITS.answers_max // 2 and bytes_ <= LIMITS.answers_bytes_max // 2 and age_s < 100:
                assert answers.get(known) == frame, "forgotten too soon"
            elif age_s > 2 * LIMITS.answers_age_s + TICK_S:
                assert answers.get(known) is None, "kept for too long"


def test_all_is_forgotten_in_the_end() -> None:
    answers = Answers(LIMITS)
    answers.add(b"a", b"frame", 5.0)
    answers.forget_old(104.0)
    assert answers.get(b"a") == b"frame"
    for now_s in (105.0, 204.0):
        answers.forget_old(now_s)
        assert answers.get(b"a") == b"frame"
    answers.forget_old(205.0)
    assert answers.get(b"a") is None
    assert not answers
