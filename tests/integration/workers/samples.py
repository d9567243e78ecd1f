"""Calls as the two stages would have left them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from typer.testing import Result

from db import queue
from db.repository import calls, runs, scorecards
from db.repository.calls import MediaFacts
from db.repository.runs import NewRun
from db.session import Database
from tests.integration.db.samples import (
    a_lead,
    a_sentiment,
    a_summary,
    evidence_for,
    make_call,
    make_transcript,
)
from workers.upgrade import register_built_in

# Runs a command as a shell would: arguments, then environment variables by name.
Aftercall = Callable[..., Result]
FACTS = MediaFacts("ok", None, "wav", "pcm_mulaw", 8_000, 2, 10_000)


def add_scored_call(
    database: Database,
    external_id: str = "call-1",
    *,
    agent_id: str | None = "salon",
    started_at: datetime = datetime(2026, 11, 20, 14, 3, tzinfo=UTC),
    summary: str = "Books a cut for Friday at nine.",
    moods: tuple[str, str] = ("neutral", "positive"),
    score: int = 85,
) -> int:
    """Store a call that went through both stages, and return its id."""
    with database.unit_of_work() as session:
        call_id = make_call(
            session,
            source="local",
            external_id=external_id,
            agent_id=agent_id,
            started_at=started_at,
            direction="inbound",
            metadata={"clinic": "north"},
        )
    score_call(database, call_id, summary=summary, moods=moods, score=score)
    return call_id


def score_call(
    database: Database,
    call_id: int,
    *,
    summary: str = "Books a cut for Friday at nine.",
    moods: tuple[str, str] = ("neutral", "positive"),
    score: int = 85,
) -> None:
    """Do what the two stages do for a call that is recorded."""
    results: dict[str, Any] = {
        "summary": a_summary(summary=summary),
        "sentiment": a_sentiment(*moods, overall=moods[1]),
        "lead_score": a_lead(score, "hot" if score >= 70 else "cold"),
    }
    with database.unit_of_work() as session:
        recording = calls.recordings_of(session, [call_id])[call_id]
        calls.record_facts(session, recording.id, FACTS)
        transcript_id = make_transcript(session, call_id)
        queue.enqueue(session, [call_id], "analyze")
    with database.unit_of_work() as session:
        lease = queue.claim(session, "analyze", worker="tests", limit=1)
        assert lease is not None
        register_built_in(session)
        for card in scorecards.promoted(session, results):
            runs.store_run(
                session,
                NewRun(
                    call_id,
                    transcript_id,
                    card.id,
                    "ok",
                    fingerprint=f"{card.name} of {call_id}",
                    provenance={},
                    result=results[card.name],
                    evidence=evidence_for(results[card.name]),
                ),
            )
        queue.finish(session, lease.token, lease.jobs[0].id)


def rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    with database.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]
