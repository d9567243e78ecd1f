"""What a report shows, read in one transaction."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from analytics.lead_score import LEAD_RULE
from db.repository import reports
from db.repository.reports import (
    AgentRow,
    DayRow,
    Failure,
    HotLead,
    Overview,
    Period,
    SentimentFall,
    ValueRow,
)

NUM_LISTED = 20
NUM_CALLS_ON_PAGE = 300  # what a browser scrolls through without effort
SCORE_BIN = 10

_IN_PERIOD = """
    (CAST(:since AS timestamptz) IS NULL OR started_at >= :since)
    AND (CAST(:until AS timestamptz) IS NULL OR started_at < :until)
"""


@dataclass(frozen=True, slots=True)
class ScoreBin:
    """Calls with a lead score from `low` to `high`, both included."""

    low: int
    high: int
    calls: int


@dataclass(frozen=True, slots=True)
class MoodMove:
    """Calls that began in one mood and ended in another."""

    start: str
    end: str
    calls: int


@dataclass(frozen=True, slots=True)
class ScoredCall:
    """One call in the list of the newest."""

    call_id: int
    source: str
    external_id: str
    agent_id: str | None
    started_at: datetime
    duration_ms: int | None
    status: str
    verdict: str | None
    reason: str | None
    outcome: str | None
    sentiment_start: str | None
    sentiment_end: str | None
    lead_score: int | None
    lead_tier: str | None
    summary: str | None


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything on a report."""

    made_at: datetime
    period: Period
    overview: Overview
    agents: tuple[AgentRow, ...]
    days: tuple[DayRow, ...]
    outcomes: tuple[ValueRow, ...]
    intents: tuple[ValueRow, ...]
    verdicts: tuple[ValueRow, ...]
    score_bins: tuple[ScoreBin, ...]
    mood_moves: tuple[MoodMove, ...]
    hot_leads: tuple[HotLead, ...]
    sentiment_falls: tuple[SentimentFall, ...]
    newest_calls: tuple[ScoredCall, ...]
    failures: tuple[Failure, ...]


def read_figures(session: Session, period: Period) -> Figures:
    """All tables of the period. Failures are those of any time: they wait for a person until they are dealt with."""
    return Figures(
        made_at=datetime.now(UTC),
        period=period,
        overview=reports.overview(session, period),
        agents=reports.by_agent(session, period),
        days=reports.by_day(session, period),
        outcomes=reports.by_outcome(session, period),
        intents=reports.by_intent(session, period),
        verdicts=reports.by_verdict(session, period),
        score_bins=_score_bins(session, period),
        mood_moves=_mood_moves(session, period),
        hot_leads=reports.hot_leads(
            session, period, min_score=LEAD_RULE.hot_from, limit=NUM_LISTED
        ),
        sentiment_falls=reports.sentiment_falls(session, period, limit=NUM_LISTED),
        newest_calls=newest_calls(session, period, limit=NUM_CALLS_ON_PAGE),
        failures=reports.pipeline_failures(session, limit=NUM_LISTED),
    )


def newest_calls(session: Session, period: Period, *, limit: int) -> tuple[ScoredCall, ...]:
    """Calls with what was made of them, newest first."""
    columns = ", ".join(ScoredCall.__dataclass_fields__)
    query = f"SELECT {columns} FROM call_scores WHERE {_IN_PERIOD} ORDER BY started_at DESC, call_id DESC LIMIT :limit"
    rows = session.execute(text(query), {**_bounds(period), "limit": limit})
    return tuple(ScoredCall(**row) for row in rows.mappings())


def read_calls(session: Session, call_ids: Collection[int]) -> tuple[ScoredCall, ...]:
    """These calls, in their order of arrival."""
    columns = ", ".join(ScoredCall.__dataclass_fields__)
    query = f"SELECT {columns} FROM call_scores WHERE call_id = ANY(:call_ids) ORDER BY call_id"
    rows = session.execute(text(query), {"call_ids": list(call_ids)})
    return tuple(ScoredCall(**row) for row in rows.mappings())


def _score_bins(session: Session, period: Period) -> tuple[ScoreBin, ...]:
    """Every bin, empty ones included; 100 belongs to the last."""
    query = f"""
        SELECT least(lead_score / {SCORE_BIN}, {100 // SCORE_BIN - 1}) AS bin, count(*) AS calls
        FROM call_scores WHERE lead_score IS NOT NULL AND {_IN_PERIOD} GROUP BY 1
    """
    counts = {row.bin: row.calls for row in session.execute(text(query), _bounds(period))}
    last = 100 // SCORE_BIN - 1
    return tuple(
        ScoreBin(
            number * SCORE_BIN,
            100 if number == last else (number + 1) * SCORE_BIN - 1,
            counts.get(number, 0),
        )
        for number in range(last + 1)
    )


def _mood_moves(session: Session, period: Period) -> tuple[MoodMove, ...]:
    query = f"""
        SELECT sentiment_start AS start, sentiment_end AS end, count(*) AS calls FROM call_scores
        WHERE sentiment_change IS NOT NULL AND {_IN_PERIOD} GROUP BY 1, 2
    """
    rows = session.execute(text(query), _bounds(period))
    return tuple(MoodMove(row.start, row.end, row.calls) for row in rows)


def _bounds(period: Period) -> dict[str, datetime | None]:
    return {"since": period.since, "until": period.until}
