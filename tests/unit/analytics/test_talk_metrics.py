import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.talk_metrics import measure, percentile
from analytics.transcript import Role, Transcript, Turn


def call(*turns: tuple[Role, int, int, str], duration_ms: int = 20_000) -> Transcript:
    numbered = tuple(Turn(i, *turn, confidence=0.9) for i, turn in enumerate(turns, start=1))
    return Transcript(numbered, duration_ms, "en")


def test_a_plain_exchange():
    metrics = measure(
        call(
            ("agent", 0, 2_000, "Hello this is the salon"),
            ("caller", 2_500, 5_500, "I want to book a cut"),
            ("agent", 6_500, 8_500, "Sure when suits you"),
            duration_ms=20_000,
        )
    )
    assert metrics.talk_time_agent_ms == 4_000
    assert metrics.talk_time_caller_ms == 3_000
    assert metrics.talk_time_total_ms == 7_000
    assert (
        metrics.non_talk_time_total_ms == 11_500
    )  # from 8.5 s to the end; the pauses of 0.5 and 1 s are not dead air
    assert metrics.agent_response_gap_p50_ms == 1_000
    assert metrics.interruptions_agent_count == metrics.interruptions_caller_count == 0
    assert metrics.talk_speed_caller_wpm == 120.0


def test_cutting_in_counts_for_the_one_who_cuts_in():
    metrics = measure(
        call(
            ("caller", 0, 5_000, "so what I was going to say is"),
            ("agent", 4_000, 6_000, "let me stop you there"),
        )
    )
    assert metrics.interruptions_agent_count == 1
    assert metrics.interruptions_caller_count == 0
    assert metrics.agent_response_gap_p50_ms == 0


@pytest.mark.parametrize(
    ("start_ms", "text"),
    [(4_800, "let me stop you there"), (4_000, "uh huh")],
    ids=["too short an overlap", "a backchannel"],
)
def test_small_overlaps_are_not_interruptions(start_ms, text):
    metrics = measure(
        call(("caller", 0, 5_000, "so what I was going to say"), ("agent", start_ms, 6_000, text))
    )
    assert metrics.interruptions_agent_count == 0


STORY = ("caller", 0, 10_000, "a long story that goes on")


@pytest.mark.parametrize(
    ("turns", "gap_ms"),
    [
        ([STORY, ("agent", 4_000, 4_400, "mm"), ("agent", 12_000, 15_000, "I see")], 2_000),
        ([STORY, ("agent", 4_000, 10_000, "mm"), ("agent", 12_000, 15_000, "I see")], 2_000),
        ([STORY, ("agent", 9_000, 12_000, "I see what you mean")], 0),
        ([STORY, ("agent", 4_000, 4_400, "mm"), ("caller", 11_000, 12_000, "hello")], None),
        ([STORY, ("caller", 11_000, 12_000, "hello"), ("agent", 12_500, 13_000, "yes")], 500),
        (
            [
                ("agent", 0, 9_000, "our hours are"),
                ("caller", 3_000, 3_500, "right"),
                ("agent", 11_000, 12_000, "anything else"),
            ],
            None,
        ),
        (
            [
                ("agent", 0, 4_000, "our hours are"),
                ("caller", 3_000, 5_000, "wait a moment"),
                ("agent", 6_000, 7_000, "yes"),
            ],
            1_000,
        ),
    ],
    ids=[
        "a backchannel is no answer",
        "nor one that ends with the caller",
        "cutting in is an answer without a gap",
        "the caller had to go on",
        "the last turn before the answer counts",
        "an agent who speaks on is not asked",
        "the caller cut in",
    ],
)
def test_the_response_gap_ends_with_the_answer(turns, gap_ms):
    assert measure(call(*turns)).agent_response_gap_p50_ms == gap_ms


def test_unknown_speakers_count_for_totals_only():
    metrics = measure(
        call(("unknown", 0, 4_000, "hello there"), ("unknown", 3_000, 5_000, "hi what is it"))
    )
    assert metrics.talk_time_total_ms == 5_000
    assert metrics.talk_time_agent_ms == metrics.talk_time_caller_ms == 0
    assert metrics.interruptions_agent_count == metrics.interruptions_caller_count == 0
    assert metrics.agent_response_gap_p50_ms is None
    assert metrics.talk_speed_agent_wpm is None


def test_a_silent_call_is_all_dead_air():
    assert measure(call(duration_ms=60_000)).non_talk_time_total_ms == 60_000


@pytest.mark.parametrize(("fraction", "expected"), [(0.5, 2), (0.95, 4), (0.01, 1), (1.0, 4)])
def test_percentile_is_the_nearest_rank(fraction, expected):
    assert percentile([3, 1, 4, 2], fraction) == expected


turns = st.lists(
    st.tuples(
        st.sampled_from(["agent", "caller", "unknown"]),
        st.integers(0, 50_000),
        st.integers(1, 8_000),
        st.sampled_from(["yes", "that works for me", ""]),
    ),
    max_size=12,
)


@given(turns)
def test_times_add_up_for_any_call(drawn):
    ordered = sorted(drawn, key=lambda turn: turn[1])
    duration_ms = 60_000
    metrics = measure(call(*((r, s, s + d, t) for r, s, d, t in ordered), duration_ms=duration_ms))
    assert metrics.talk_time_total_ms + metrics.non_talk_time_total_ms <= duration_ms
    assert metrics.talk_time_agent_ms <= metrics.talk_time_total_ms
    assert metrics.talk_time_caller_ms <= metrics.talk_time_total_ms
