"""Everything of one call, and the unit of work that all of this runs in."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from db import queue
from db.errors import CallNotFoundError, DatabaseUnavailableError
from db.models import Call
from db.repository import calls, runs, scorecards, show
from db.repository.calls import MediaFacts
from db.session import Database
from tests.integration.db.samples import (
    TRANSCRIPT,
    a_lead,
    a_sentiment,
    a_summary,
    evidence_for,
    make_call,
    make_scored_call,
)


def test_a_scored_call_is_shown_whole(session: Session) -> None:
    call_id = make_scored_call(session, agent_id="ann", metadata={"campaign_id": 7})
    recording = calls.recordings_of(session, [call_id])[call_id]
    facts = MediaFacts("mono", "one channel only", "wav", "pcm_mulaw", 8_000, 1, 10_000)
    calls.record_facts(session, recording.id, facts)
    shown = show.show_call(session, call_id)
    assert (shown.agent_id, shown.status, shown.metadata) == ("ann", "scored", {"campaign_id": 7})
    assert shown.recording is not None
    assert (shown.recording.verdict, shown.recording.codec) == ("mono", "pcm_mulaw")
    assert shown.transcript is not None
    assert shown.transcript.transcript == TRANSCRIPT
    results = {run.scorecard: run.result for run in shown.runs if run.is_current}
    assert results == {"summary": a_summary(), "sentiment": a_sentiment(), "lead_score": a_lead()}
    lead = shown.current("lead_score")
    assert lead is not None
    assert set(lead.evidence) == set(evidence_for(a_lead()))
    assert [(job.stage, job.state) for job in shown.jobs] == [
        ("analyze", "done"),
        ("transcribe", "done"),
    ]


def test_a_call_shows_its_earlier_and_its_bad_runs(session: Session) -> None:
    call_id = make_scored_call(session)
    first = show.show_call(session, call_id).current("summary")
    assert first is not None
    card = scorecards.get(session, "summary")
    invalid = runs.NewRun(
        call_id,
        first.transcript_id,
        card.id,
        "invalid",
        "f2",
        {"weights": "b"},
        error="outcome: not in the list",
    )
    runs.store_run(session, invalid)
    newest = show.show_call(session, call_id).runs[0]
    assert (newest.status, newest.is_current, newest.result) == ("invalid", False, None)
    assert (newest.error, newest.provenance) == ("outcome: not in the list", {"weights": "b"})
    assert show.show_call(session, call_id).current("summary") == first
    assert show.show_call(session, call_id).current("upsell") is None


def test_a_call_that_was_just_received_is_shown_too(session: Session) -> None:
    shown = show.show_call(session, make_call(session))
    assert (shown.status, shown.transcript, shown.metrics, shown.runs, shown.jobs) == (
        "received",
        None,
        None,
        (),
        (),
    )
    with pytest.raises(CallNotFoundError, match="no call -1"):
        show.show_call(session, -1)


def test_a_unit_of_work_is_all_or_nothing(database: Database) -> None:
    def half_done() -> None:
        with database.unit_of_work() as session:
            queue.enqueue(session, [make_call(session, source="half")], "transcribe")
            raise KeyError("a bug")

    with pytest.raises(KeyError):
        half_done()
    with database.unit_of_work() as session:
        assert session.scalar(select(func.count()).where(Call.source == "half")) == 0


def test_sessions_are_in_utc_whatever_the_database_says(database: Database) -> None:
    with database.engine.begin() as connection:
        name = connection.dialect.identifier_preparer.quote(str(database.url.database))
        connection.execute(text(f"ALTER DATABASE {name} SET timezone = 'Europe/Berlin'"))
    url = database.url.render_as_string(hide_password=False)
    with Database(url) as fresh, fresh.unit_of_work() as session:
        assert session.scalar(text("SHOW timezone")) == "UTC"
        sunday = "SELECT date_trunc('week', timestamptz '2026-11-22 23:30Z')::date::text"
        assert session.scalar(text(sunday)) == "2026-11-16"


def test_a_connection_that_broke_is_replaced(database: Database) -> None:
    with database.unit_of_work() as session:
        pid = session.scalar(text("SELECT pg_backend_pid()"))
    with (
        Database(database.url.render_as_string(hide_password=False)) as other,
        other.unit_of_work() as killer,
    ):
        killer.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    with database.unit_of_work() as session:
        assert session.scalar(text("SELECT 1")) == 1


def test_a_connection_that_breaks_in_mid_work_is_a_typed_error(database: Database) -> None:
    def broken_work() -> None:
        with database.unit_of_work() as session:
            session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(DatabaseUnavailableError):
        broken_work()


def test_the_server_says_its_version(database: Database) -> None:
    assert int(database.ping().split(".")[0]) >= 14
    database.check_schema_current()
