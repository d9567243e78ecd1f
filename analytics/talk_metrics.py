"""Talk metrics, computed from the turns alone: who talked how much, who waited, who interrupted.

Names follow the Amazon Connect data lake (`talk_time_agent_ms`, `non_talk_time_total_ms`, …).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from analytics.transcript import Role, Transcript, Turn

# Silence counts as dead air beyond this, as in Connect's non-talk time; shorter pauses are conversation.
DEAD_AIR_MS = 3_000
# Less overlap than this is a backchannel or a recogniser's rounding, not an interruption.
INTERRUPTION_OVERLAP_MS = 300
# Turns of fewer words interrupt nobody: "uh huh", "right".
INTERRUPTION_MIN_WORDS = 3


@dataclass(frozen=True, slots=True)
class TalkMetrics:
    """Metrics of one call; None where there is nothing to measure, as for an agent who never answers."""

    talk_time_agent_ms: int
    talk_time_caller_ms: int
    talk_time_total_ms: int  # time in which anyone speaks
    non_talk_time_total_ms: int  # dead air: silences of more than 3 s, the call's edges included
    interruptions_agent_count: int  # the agent cut in on the caller
    interruptions_caller_count: int
    agent_response_gap_p50_ms: (
        int | None
    )  # from the end of a caller's turn to the agent's next word
    agent_response_gap_p95_ms: int | None
    talk_speed_agent_wpm: float | None
    talk_speed_caller_wpm: float | None


def measure(transcript: Transcript) -> TalkMetrics:
    """The talk metrics of `transcript`. Turns of unknown role count for the totals only."""
    turns = sorted(transcript.turns, key=lambda turn: (turn.start_ms, turn.end_ms))
    spoken = _merge([(turn.start_ms, turn.end_ms) for turn in turns])
    gaps = _response_gaps_ms(turns)
    return TalkMetrics(
        talk_time_agent_ms=_talk_time_ms(turns, "agent"),
        talk_time_caller_ms=_talk_time_ms(turns, "caller"),
        talk_time_total_ms=sum(end - start for start, end in spoken),
        non_talk_time_total_ms=_dead_air_ms(spoken, transcript.duration_ms),
        interruptions_agent_count=_interruptions(turns, "agent"),
        interruptions_caller_count=_interruptions(turns, "caller"),
        agent_response_gap_p50_ms=percentile(gaps, 0.50),
        agent_response_gap_p95_ms=percentile(gaps, 0.95),
        talk_speed_agent_wpm=_words_per_minute(turns, "agent"),
        talk_speed_caller_wpm=_words_per_minute(turns, "caller"),
    )


def percentile(values: Sequence[int], fraction: float) -> int | None:
    """The nearest-rank percentile of `values`, or None when there are none."""
    if not values:
        return None
    rank = max(
        1, -int(-fraction * len(values) // 1)
    )  # ceiling: the smallest rank that covers the fraction
    return sorted(values)[rank - 1]


def _merge(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Union of intervals that are sorted by their start."""
    merged: list[tuple[int, int]] = []
    for start, end in intervals:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _of(turns: list[Turn], role: Role) -> list[Turn]:
    return [turn for turn in turns if turn.role == role]


def _talk_time_ms(turns: list[Turn], role: Role) -> int:
    merged = _merge([(turn.start_ms, turn.end_ms) for turn in _of(turns, role)])
    return sum(end - start for start, end in merged)


def _dead_air_ms(spoken: list[tuple[int, int]], duration_ms: int) -> int:
    edges = [0, *(edge for interval in spoken for edge in interval), duration_ms]
    silences = (end - start for start, end in zip(edges[::2], edges[1::2], strict=True))
    return sum(silence for silence in silences if silence > DEAD_AIR_MS)


def _interruptions(turns: list[Turn], role: Role) -> int:
    """Turns of `role` with real words that begin while the other side is still speaking."""
    others = [turn for turn in turns if turn.role not in (role, "unknown")]
    return sum(
        len(turn.text.split()) >= INTERRUPTION_MIN_WORDS
        and any(
            other.start_ms < turn.start_ms
            and min(other.end_ms, turn.end_ms) - turn.start_ms >= INTERRUPTION_OVERLAP_MS
            for other in others
        )
        for turn in _of(turns, role)
    )


def _response_gaps_ms(turns: list[Turn]) -> list[int]:
    """Silences between a caller's turn and the agent's answer: the first turn that goes on beyond the caller's.

    An answer that cuts in leaves no gap, and one that the caller did not wait for, or spoke into, is not measured.
    """
    questions, spoken = _of(turns, "caller"), _of(turns, "agent")
    gaps = []
    for question, following in itertools.zip_longest(questions, questions[1:]):
        answers = [
            turn
            for turn in spoken
            if turn.end_ms > question.end_ms
            and (following is None or turn.start_ms < following.start_ms)
        ]
        if answers and answers[0].start_ms >= question.start_ms:
            gaps.append(max(0, answers[0].start_ms - question.end_ms))
    return gaps


def _words_per_minute(turns: list[Turn], role: Role) -> float | None:
    own = _of(turns, role)
    minutes = sum(turn.end_ms - turn.start_ms for turn in own) / 60_000
    return round(sum(len(turn.text.split()) for turn in own) / minutes, 1) if minutes > 0 else None
