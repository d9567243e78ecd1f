"""Report tables: what a team reads off its calls, and what the pipeline is doing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeVar

import psycopg
from psycopg.pq import ExecStatus
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from db.enums import CallStatus, JobState, Stage, Verdict
from db.errors import QueryFailedError, ValueUnstorableError, translate
from db.sql import statements

_SQL = statements("reports")
_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class Period:
    """Calls that started at `since` or later and before `until`; None does not bound."""

    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    """All calls together. Rates and means are None while there is nothing to take them of."""

    calls: int
    scored: int
    rejected: int
    failed: int
    in_progress: int
    minutes: float
    booked: int
    booked_rate: float | None
    mean_lead_score: float | None
    hot_leads: int
    mean_sentiment_end: float | None
    sentiment_fell: int


@dataclass(frozen=True, slots=True)
class AgentRow:
    """One agent's calls. Sentiment is between -1 and 1; `agent_id` None gathers calls without an agent."""

    agent_id: str | None
    calls: int
    scored: int
    booked: int
    booked_rate: float | None
    mean_lead_score: float | None
    hot_leads: int
    mean_sentiment_end: float | None
    sentiment_fell: int
    mean_agent_talk_share: float | None
    median_response_gap_ms: float | None
    median_response_gap_p95_ms: float | None
    mean_interruptions_agent: float | None
    mean_non_talk_time_ms: float | None


@dataclass(frozen=True, slots=True)
class DayRow:
    """One day's calls (UTC)."""

    day: date
    calls: int
    scored: int
    booked: int
    mean_lead_score: float | None
    mean_sentiment_end: float | None


@dataclass(frozen=True, slots=True)
class ValueRow:
    """Calls with one value of an enumerated field."""

    value: str
    calls: int
    share: float
    mean_lead_score: float | None
    mean_sentiment_end: float | None


@dataclass(frozen=True, slots=True)
class HotLead:
    """A call whose lead score is high."""

    call_id: int
    external_id: str
    agent_id: str | None
    started_at: datetime
    caller_name: str | None
    service: str | None
    lead_score: int
    lead_tier: str
    lead_reasons: list[str]
    outcome: str | None
    intent: str
    urgency: str
    next_step: str | None
    summary: str | None


@dataclass(frozen=True, slots=True)
class SentimentFall:
    """A call whose caller ended in a worse mood than at the start; `sentiment_change` is -1 or -2."""

    call_id: int
    external_id: str
    agent_id: str | None
    started_at: datetime
    sentiment_start: str
    sentiment_end: str
    sentiment_change: int
    outcome: str | None
    summary: str | None


@dataclass(frozen=True, slots=True)
class CallRow:
    """One call in a list."""

    call_id: int
    source: str
    external_id: str
    agent_id: str | None
    started_at: datetime
    duration_ms: int | None
    verdict: Verdict | None
    status: CallStatus
    reason: str | None
    outcome: str | None
    sentiment: str | None
    lead_score: int | None
    lead_tier: str | None
    intent: str | None
    summary: str | None


@dataclass(frozen=True, slots=True)
class PipelineRow:
    """Job rows of one stage and state. `oldest_s`: seconds that the oldest has been waiting or running."""

    stage: Stage
    state: JobState
    jobs: int
    due: int
    retrying: int
    expired: int
    oldest_s: float | None


@dataclass(frozen=True, slots=True)
class StatusCount:
    """How many calls have a status."""

    status: CallStatus
    calls: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that failed for good or was rejected, and why."""

    call_id: int
    source: str
    external_id: str
    uri: str | None
    status: CallStatus
    stage: Stage | None
    attempts: int | None
    verdict: Verdict | None
    error_class: str | None
    reason: str | None
    failed_at: datetime


@dataclass(frozen=True, slots=True)
class RunCount:
    """Runs of one scorecard version that ended with one status."""

    scorecard: str
    version: int
    status: str
    runs: int
    mean_engine_ms: float | None
    mean_steps: float | None


@dataclass(frozen=True, slots=True)
class Table:
    """The answer to a query that a user wrote."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    is_cut: bool  # there were more rows than the limit


def overview(session: Session, period: Period = Period()) -> Overview:
    """All calls of the period together."""
    return _rows(session, "overview", Overview, since=period.since, until=period.until)[0]


def by_agent(session: Session, period: Period = Period()) -> tuple[AgentRow, ...]:
    """Per agent, most calls first."""
    return _rows(session, "by_agent", AgentRow, since=period.since, until=period.until)


def by_day(session: Session, period: Period = Period()) -> tuple[DayRow, ...]:
    """Per day, in order; days without calls are left out."""
    return _rows(session, "by_day", DayRow, since=period.since, until=period.until)


def by_outcome(session: Session, period: Period = Period()) -> tuple[ValueRow, ...]:
    """Per outcome, most calls first."""
    return _rows(session, "by_outcome", ValueRow, since=period.since, until=period.until)


def by_intent(session: Session, period: Period = Period()) -> tuple[ValueRow, ...]:
    """Per intent, most calls first."""
    return _rows(session, "by_intent", ValueRow, since=period.since, until=period.until)


def by_sentiment(session: Session, period: Period = Period()) -> tuple[ValueRow, ...]:
    """Per overall sentiment, most calls first."""
    return _rows(session, "by_sentiment", ValueRow, since=period.since, until=period.until)


def by_verdict(session: Session, period: Period = Period()) -> tuple[ValueRow, ...]:
    """Per verdict of the media guard, most calls first."""
    return _rows(session, "by_verdict", ValueRow, since=period.since, until=period.until)


def hot_leads(
    session: Session,
    period: Period = Period(),
    *,
    min_score: int | None = None,
    limit: int = 20,
) -> tuple[HotLead, ...]:
    """Calls whose lead is hot by the rule, or with a lead score of at least `min_score`, best first."""
    return _rows(
        session,
        "hot_leads",
        HotLead,
        since=period.since,
        until=period.until,
        min_score=min_score,
        limit=limit,
    )


def sentiment_falls(
    session: Session, period: Period = Period(), *, limit: int = 20
) -> tuple[SentimentFall, ...]:
    """Calls that ended in a worse mood than they began, worst first."""
    return _rows(
        session,
        "sentiment_falls",
        SentimentFall,
        since=period.since,
        until=period.until,
        limit=limit,
    )


def call_list(
    session: Session, period: Period = Period(), *, limit: int = 1_000
) -> tuple[CallRow, ...]:
    """Calls in order of their start."""
    return _rows(session, "call_list", CallRow, since=period.since, until=period.until, limit=limit)


def pipeline(session: Session) -> tuple[PipelineRow, ...]:
    """Job rows by stage and state."""
    return _rows(session, "pipeline", PipelineRow)


def pipeline_calls(session: Session) -> tuple[StatusCount, ...]:
    """Calls by status, in the order in which a call passes through them."""
    return _rows(session, "pipeline_calls", StatusCount)


def pipeline_failures(session: Session, *, limit: int = 20) -> tuple[Failure, ...]:
    """Calls that failed for good or were rejected, newest first."""
    return _rows(session, "pipeline_failures", Failure, limit=limit)


def runs_by_scorecard(session: Session, period: Period = Period()) -> tuple[RunCount, ...]:
    """Runs made in the period, by scorecard version and status."""
    return _rows(session, "runs_by_scorecard", RunCount, since=period.since, until=period.until)


# A superuser may write files and run programs on the server even where the transaction is read-only.
_NOT_AS_SUPERUSER = text(
    "SELECT set_config('role', 'pg_read_all_data', true) WHERE current_setting('is_superuser') = 'on'"
)


def run_sql(session: Session, query: str, *, limit: int = 1_000) -> Table:
    """Run one query that a user wrote, which can change nothing. Raises QueryFailedError.

    Call it first in its unit of work. At most `limit` rows are returned.
    """
    connection = session.connection()
    connection.execute(text("SET TRANSACTION READ ONLY"))
    connection.execute(_NOT_AS_SUPERUSER)
    try:
        _require_rows(connection, query)
        # Without parameters psycopg leaves `%` and `:` in the query alone.
        result = connection.exec_driver_sql(query, execution_options={"no_parameters": True})
        rows = result.fetchmany(limit + 1)
    except ValueUnstorableError as error:  # nothing was to be stored here: 1/0, an infinite date
        raise QueryFailedError(f"query refused: {error.__cause__}") from error
    except DBAPIError as error:
        raise QueryFailedError(f"query refused: {' '.join(str(error.orig).split())}") from error
    return Table(tuple(result.keys()), tuple(map(tuple, rows[:limit])), is_cut=len(rows) > limit)


def _require_rows(connection: Connection, query: str) -> None:
    """Let the server parse `query`, without running it, and refuse what is not one statement that gives rows.

    A prepared statement is a single one, so a query cannot begin another transaction or take its role back. Of single
    statements those without rows are the dangerous ones: DO runs several, COPY writes files.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    server = driver.pgconn
    prepared = server.prepare(b"", query.encode(driver.info.encoding))
    if prepared.status == ExecStatus.COMMAND_OK:
        prepared = server.describe_prepared(b"")
    if prepared.status != ExecStatus.COMMAND_OK:
        refusal = psycopg.errors.error_from_result(prepared, driver.info.encoding)
        raise translate(refusal) or QueryFailedError(f"query refused: {refusal}") from refusal
    if prepared.nfields == 0:
        raise QueryFailedError(
            "query refused: it gives no rows, and only queries that read are run"
        )


def _rows(
    session: Session, statement: str, kind: type[_Row], **parameters: object
) -> tuple[_Row, ...]:
    found = session.execute(_SQL[statement], parameters)
    return tuple(kind(**row) for row in found.mappings())
