"""Which charts a report has, and what each is drawn from."""

from __future__ import annotations

from datetime import timedelta
from html import escape

from analytics.lead_score import LEAD_RULE
from workers.readable import percent, words
from workers.report import svg
from workers.report.figures import Figures, MoodMove
from workers.report.svg import Bar, Cell, Span

_NUM_AGENTS = 8
_NUM_DAYS = 31
_OUTCOME_KINDS = {
    "booked": "good",
    "rescheduled": "good",
    "cancelled": "bad",
    "declined": "bad",
    "unresolved": "bad",
    "not_applicable": "plain",
}
# Neutral and mixed are one row: both say that the call neither won the caller nor lost them.
_MOODS = {"positive": 0, "neutral": 1, "mixed": 1, "negative": 2}
_MOOD_LABELS = ("positive", "neutral", "negative")


def render_charts(figures: Figures) -> str:
    """All charts that have something to show, in pairs of about the same height."""
    charts = [
        _outcomes(figures),
        _intents(figures),
        _lead_scores(figures),
        _moods(figures.mood_moves),
        _response_gaps(figures),
        _talk_shares(figures),
        _days(figures),
    ]
    shown = [chart for chart in charts if chart]
    return f'<div class="charts">{"".join(shown)}</div>' if shown else ""


def _outcomes(figures: Figures) -> str:
    rows = [
        Bar(
            words(row.value),
            row.calls,
            f"{row.calls:,} ({percent(row.share)})",
            _OUTCOME_KINDS.get(row.value, "accent"),
        )
        for row in figures.outcomes
    ]
    return _card("Outcomes", "What calls came to.", svg.bars("Calls by outcome", rows), rows)


def _intents(figures: Figures) -> str:
    rows = [
        Bar(words(row.value), row.calls, f"{row.calls:,} ({percent(row.share)})")
        for row in figures.intents
    ]
    return _card("Why they called", "The caller's intent.", svg.bars("Calls by intent", rows), rows)


def _lead_scores(figures: Figures) -> str:
    rows = [
        Bar(
            str(found.low),
            found.calls,
            f"{found.calls:,}",
            LEAD_RULE.tier(found.low),
        )
        for found in figures.score_bins
    ]
    note = f"Calls per ten points. Hot from {LEAD_RULE.hot_from}, warm from {LEAD_RULE.warm_from}."
    drawn = svg.columns("Calls by lead score", rows)
    return _card("Lead scores", note, drawn, [row for row in rows if row.value])


def _moods(moves: tuple[MoodMove, ...]) -> str:
    counts = [[0] * 3 for _ in range(3)]
    for move in moves:
        counts[_MOODS[move.start]][_MOODS[move.end]] += move.calls
    most = max(max(row) for row in counts) or 1
    cells = [
        [
            Cell(
                f"{number:,}" if number else "",
                number / most,
                _move_kind(i, j),
                f"from {_MOOD_LABELS[i]} to {_MOOD_LABELS[j]}: {number:,}",
            )
            for j, number in enumerate(row)
        ]
        for i, row in enumerate(counts)
    ]
    rows = [f"began {label}" for label in _MOOD_LABELS]
    columns = [f"ended {label}" for label in _MOOD_LABELS]
    drawn = svg.grid("Calls by mood at start and end", rows, columns, cells)
    return _card("Moods", "Where callers began and where they ended.", drawn, moves)


def _move_kind(start: int, end: int) -> str:
    if start == end:
        return "plain"
    return "good" if end < start else "bad"


def _days(figures: Figures) -> str:
    """Calls per day, days without calls included: a gap is news."""
    counts = {row.day: row.calls for row in figures.days}
    if len(counts) < 2:
        return ""
    last = max(counts)
    num_days = min(_NUM_DAYS, (last - min(counts)).days + 1)
    days = [last - timedelta(days=back) for back in reversed(range(num_days))]
    rows = [
        Bar(f"{day:%b} {day.day}", counts.get(day, 0), f"{counts.get(day, 0):,}") for day in days
    ]
    drawn = svg.columns("Calls per day", rows, width=svg.FULL_WIDTH, num_labels=16)
    note = f"Calls per day, the last {num_days} days."
    return _card("Days", note, drawn, rows, kind="full")


def _response_gaps(figures: Figures) -> str:
    rows = [
        Span(
            agent.agent_id or "not told",
            agent.median_response_gap_ms,
            agent.median_response_gap_p95_ms,
            f"{agent.median_response_gap_ms / 1000:.1f} to {agent.median_response_gap_p95_ms / 1000:.1f} s",
        )
        for agent in figures.agents[:_NUM_AGENTS]
        if agent.median_response_gap_ms is not None and agent.median_response_gap_p95_ms is not None
    ]
    note = "How long callers wait for the agent's answer: median, and the slowest of twenty."
    return _card("Answers after", note, svg.spans("Response gap by agent", rows), rows)


def _talk_shares(figures: Figures) -> str:
    rows = [
        (agent.agent_id or "not told", agent.mean_agent_talk_share)
        for agent in figures.agents[:_NUM_AGENTS]
        if agent.mean_agent_talk_share is not None
    ]
    note = "The agent's part of the talk time; the rest is the caller's."
    return _card("Who talks", note, svg.shares("Talk share by agent", rows), rows)


def _card(title: str, note: str, drawn: str, rows: object, *, kind: str = "half") -> str:
    if not rows:
        return ""
    return f'<section class="{kind}"><h2>{escape(title)}</h2><p class="note">{escape(note)}</p>{drawn}</section>'
