"""What the views say of a call, at each step of its way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from db import queue
from db.enums import CallStatus
from db.queue import QueuePolicy
from db.repository import calls, runs, scorecards, transcripts
from db.repository.calls import MediaFacts, NewCall, NewRecording
from tests.integration.db.samples import (
    a_lead,
    a_sentiment,
    a_summary,
    make_call,
    make_scored_call,
    make_transcript,
    promote_built_in,
    sha,
    store_result,
)


def status(session: Session, call_id: int) -> str:
    return calls.statuses(session, [call_id])[call_id]


def claim(session: Session, stage: Any) -> queue.Lease:
    session.execute(text("UPDATE jobs SET run_after = now() WHERE state = 'ready'"))
    lease = queue.claim(session, stage, worker="w", limit=1)
    assert lease is not None
    return lease


def row(session: Session, call_id: int) -> Row[Any]:
    return session.execute(
        text("SELECT * FROM call_scores WHERE call_id = :id"), {"id": call_id}
    ).one()


def test_a_call_passes_through_its_statuses(session: Session) -> None:
    call_id = make_call(session)
    seen = [status(session, call_id)]
    queue.enqueue(session, [call_id], "transcribe")
    seen.append(status(session, call_id))
    lease = claim(session, "transcribe")
    seen.append(status(session, call_id))
    make_transcript(session, call_id)
    queue.enqueue(session, [call_id], "analyze")
    queue.finish(session, lease.token, lease.ids[0])
    seen.append(status(session, call_id))
    lease = claim(session, "analyze")
    seen.append(status(session, call_id))
    queue.finish(session, lease.token, lease.ids[0])
    seen.append(status(session, call_id))
    assert seen == ["received", "received", "transcribing", "transcribed", "analyzing", "scored"]


@pytest.mark.parametrize(
    "verdict", ["too_long", "unsupported", "empty", "corrupt", "missing", "unreadable"]
)
def test_a_call_with_a_rejecting_verdict_is_rejected_for_that_reason(
    session: Session, verdict: Any
) -> None:
    call_id = make_call(session)
    recording = calls.recordings_of(session, [call_id])[call_id]
    queue.enqueue(session, [call_id], "transcribe")
    lease = claim(session, "transcribe")
    calls.record_facts(
        session, recording.id, MediaFacts(verdict=verdict, verdict_detail="no audio in it")
    )
    queue.finish(session, lease.token, lease.ids[0])
    assert row(session, call_id)[0:1] == (call_id,)
    assert (status(session, call_id), row(session, call_id).reason) == (
        "rejected",
        "no audio in it",
    )
    queue.enqueue(session, [call_id], "transcribe")
    assert status(session, call_id) == "received", "it is being tried again"


def test_a_call_rejected_at_the_door_needs_no_job(session: Session) -> None:
    recording = NewRecording("/a.wav", sha("a"), facts=MediaFacts(verdict="empty"))
    call_id = calls.ingest(session, NewCall("crm", "1"), recording).call_id
    assert (status(session, call_id), row(session, call_id).reason) == ("rejected", "empty")


@pytest.mark.parametrize(
    "verdict", ["ok", "mono", "identical_channels", "silent_channel", "truncated"]
)
def test_a_remark_of_the_media_guard_does_not_reject(session: Session, verdict: Any) -> None:
    call_id = make_scored_call(session)
    recording = calls.recordings_of(session, [call_id])[call_id]
    calls.record_facts(session, recording.id, MediaFacts(verdict=verdict))
    assert (status(session, call_id), row(session, call_id).verdict) == ("scored", verdict)


def test_a_call_whose_job_is_dead_has_failed(session: Session) -> None:
    call_id = make_call(session)
    queue.enqueue(session, [call_id], "transcribe")
    policy = QueuePolicy(max_attempts=2)
    for expected in ("received", "failed"):
        lease = claim(session, "transcribe")
        queue.fail(session, lease.token, lease.ids[0], error=OSError("disk"), policy=policy)
        assert (status(session, call_id), row(session, call_id).reason) == (expected, "disk")
    queue.enqueue(session, [call_id], "transcribe")
    assert status(session, call_id) == "received"


def test_a_call_that_is_transcribed_again_says_so_before_its_waiting_analysis(
    session: Session,
) -> None:
    call_id = make_scored_call(session)
    queue.enqueue(session, [call_id], "analyze")
    assert status(session, call_id) == "transcribed"
    queue.enqueue(session, [call_id], "transcribe")
    assert status(session, call_id) == "received"
    claim(session, "analyze")
    assert status(session, call_id) == "analyzing"


def test_the_view_knows_exactly_the_statuses_of_the_type(session: Session) -> None:
    definition = session.scalar(text("SELECT pg_get_viewdef('call_status'::regclass)"))
    for known in get_args(CallStatus):
        assert f"'{known}'::text" in definition


def test_a_scored_call_is_one_wide_row(session: Session) -> None:
    started = datetime(2026, 11, 20, 9, tzinfo=UTC)
    call_id = make_scored_call(
        session, agent_id="ann", started_at=started, sentiment=a_sentiment("negative", "positive")
    )
    found = row(session, call_id)
    assert (found.status, found.agent_id, found.started_at) == ("scored", "ann", started)
    assert (found.summary, found.outcome) == ("Books a cut for Friday at nine.", "booked")
    assert (found.sentiment, found.sentiment_start_score, found.sentiment_change) == (
        "positive",
        -1,
        2,
    )
    assert (found.lead_score, found.lead_tier, found.intent) == (85, "hot", "book")
    assert found.lead_reasons == ["intent book +30", "urgency high +20"]
    assert (found.talk_time_agent_ms, found.duration_ms) == (4_600, 10_000)


def test_a_received_call_is_a_row_of_nulls(session: Session) -> None:
    found = row(session, make_call(session))
    assert (found.status, found.summary, found.lead_score, found.talk_time_agent_ms) == (
        "received",
        None,
        None,
        None,
    )
    assert found.started_at == found.created_at


@pytest.mark.parametrize("mood", ["unknown", "not_applicable"])
def test_a_mood_that_is_not_known_has_no_score(session: Session, mood: str) -> None:
    found = row(session, make_scored_call(session, sentiment=a_sentiment("positive", mood)))
    assert (found.sentiment_end, found.sentiment_end_score, found.sentiment_change) == (
        mood,
        None,
        None,
    )


def test_the_newest_good_run_counts_and_a_bad_one_hides_nothing(session: Session) -> None:
    call_id = make_scored_call(session)
    card = scorecards.get(session, "summary")
    transcript_id = transcripts.current_transcripts(session, [call_id])[call_id].id

    def add(status: Any, error: str | None = None) -> None:
        run = runs.NewRun(call_id, transcript_id, card.id, status, "f", {}, error=error)
        runs.store_run(session, run)

    store_result(session, call_id, card.id, a_summary(outcome="declined"))
    add("invalid", "summary is too long")
    add("failed", "out of memory")
    assert (row(session, call_id).summary_status, row(session, call_id).outcome) == (
        "ok",
        "declined",
    )
    add("not_applicable")
    assert (row(session, call_id).summary_status, row(session, call_id).outcome) == (
        "not_applicable",
        None,
    )
    assert row(session, call_id).lead_score == 85


def test_only_the_promoted_version_counts(session: Session) -> None:
    call_id = make_scored_call(session)
    candidate = scorecards.register(
        session, name="summary", version=2, instructions="new", output_schema={}, kind="builtin"
    )
    store_result(session, call_id, candidate.id, a_summary(outcome="declined"))
    assert row(session, call_id).outcome == "booked"
    scorecards.promote(session, "summary", 2)
    assert row(session, call_id).outcome == "declined"
    promote_built_in(session)
    assert row(session, call_id).outcome == "booked"


def test_agent_daily_sums_up_a_day(session: Session) -> None:
    day = datetime(2026, 11, 20, 23, 59, tzinfo=UTC)
    make_scored_call(session, agent_id="ann", started_at=day, lead=a_lead(80))
    make_scored_call(
        session,
        agent_id="ann",
        started_at=day,
        summary=a_summary(outcome="declined"),
        sentiment=a_sentiment("neutral", "negative"),
        lead=a_lead(20, "cold"),
    )
    make_scored_call(
        session,
        agent_id="ann",
        started_at=day,
        summary=a_summary(outcome="not_applicable"),
        sentiment=a_sentiment("unknown", "unknown"),
        lead=a_lead(None, "none"),
    )
    make_call(session, agent_id="ann", started_at=day)
    make_scored_call(session, agent_id="bob", started_at=day)
    make_scored_call(session, agent_id="ann", started_at=datetime(2026, 11, 21, tzinfo=UTC))
    found = session.execute(
        text("SELECT * FROM agent_daily WHERE agent_id = 'ann' AND day = '2026-11-20'")
    ).one()
    assert (found.calls, found.scored, found.booked, found.booked_rate) == (4, 3, 1, 0.5)
    assert (found.mean_lead_score, found.hot_leads) == (50, 1)
    assert (found.mean_sentiment_end, found.sentiment_fell) == (0, 1)
    assert found.mean_agent_talk_share == pytest.approx(4_600 / 8_100)
    assert session.scalar(text("SELECT count(*) FROM agent_daily")) == 3
