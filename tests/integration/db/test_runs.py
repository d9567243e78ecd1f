"""Records go in and come out as they were; runs are only ever added."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import Session

from analytics.talk_metrics import measure
from db import queue
from db.errors import (
    ConstraintViolatedError,
    RowFrozenError,
    ScorecardChangedError,
    ScorecardNotFoundError,
    ValueNotAllowedError,
)
from db.models import (
    AnalysisRun,
    Base,
    Call,
    FieldEvidence,
    LeadRecord,
    SentimentRecord,
    SummaryRecord,
    TurnRow,
)
from db.repository import records, runs, scorecards, show, transcripts
from db.repository.records import StoredEvidence
from tests.integration.db.samples import (
    TRANSCRIPT,
    TURNS,
    a_lead,
    a_sentiment,
    a_summary,
    evidence_for,
    make_call,
    make_scored_call,
    make_transcript,
    promote_built_in,
    store_result,
)


@pytest.fixture
def call_id(session: Session) -> int:
    call_id = make_call(session)
    make_transcript(session, call_id)
    return call_id


@pytest.fixture
def cards(session: Session) -> dict[str, int]:
    return promote_built_in(session)


def a_run(session: Session, call_id: int, scorecard_id: int, **changes: Any) -> runs.NewRun:
    values: dict[str, Any] = {
        "call_id": call_id,
        "transcript_id": transcripts.current_transcripts(session, [call_id])[call_id].id,
        "scorecard_id": scorecard_id,
        "status": "ok",
        "fingerprint": "f1",
        "provenance": {},
        **changes,
    }
    return runs.NewRun(**values)


def test_a_transcript_comes_back_as_it_was(session: Session, call_id: int) -> None:
    stored = transcripts.current_transcripts(session, [call_id, -1])
    assert list(stored) == [call_id]
    assert stored[call_id].transcript == TRANSCRIPT
    assert show.show_call(session, call_id).metrics == measure(TRANSCRIPT)


def test_the_newest_transcript_is_current_and_the_first_is_kept(
    session: Session, call_id: int
) -> None:
    second = make_transcript(session, call_id, turns=TURNS[:1])
    empty_call = make_call(session)
    make_transcript(session, empty_call, turns=())
    stored = transcripts.current_transcripts(session, [call_id, empty_call])
    assert (stored[call_id].id, stored[call_id].transcript.turns) == (second, TURNS[:1])
    assert stored[empty_call].transcript.is_empty
    assert session.scalar(select(func.count()).select_from(TurnRow)) == len(TURNS) + 1


@pytest.mark.parametrize(
    ("scorecard", "result"),
    [
        ("summary", a_summary(caller_name="Zoë O’Neil")),
        ("sentiment", a_sentiment(start="mixed", end="unknown")),
        ("lead_score", a_lead()),
        ("lead_score", a_lead(score=None, tier="none")),
    ],
)
def test_a_record_comes_back_as_it_was(
    session: Session, call_id: int, cards: dict[str, int], scorecard: str, result: Any
) -> None:
    run_id = store_result(session, call_id, cards[scorecard], result)
    assert records.records_of(session, [run_id]) == {run_id: result}
    assert set(records.evidence_of(session, [run_id])[run_id]) == set(evidence_for(result))


def test_the_record_of_a_custom_scorecard_is_kept_on_its_run(
    session: Session, call_id: int
) -> None:
    card = scorecards.register(
        session,
        name="upsell",
        version=1,
        instructions="?",
        output_schema={"type": "object"},
        kind="custom",
    )
    run_id = runs.store_run(session, a_run(session, call_id, card.id, result={"offered": True}))
    assert run_id is not None
    assert records.records_of(session, [run_id]) == {run_id: {"offered": True}}


def test_a_job_that_is_repeated_stores_nothing_twice(
    session: Session, call_id: int, cards: dict[str, int]
) -> None:
    (job,) = queue.enqueue(session, [call_id], "analyze")
    run = a_run(session, call_id, cards["summary"], job_id=job.job_id, result=a_summary())
    assert runs.store_run(session, run) is not None
    assert runs.store_run(session, run) is None
    concluded = (runs.Concluded(cards["summary"], run.provenance),)
    assert runs.concluded_in_job(session, job.job_id, run.transcript_id) == concluded
    failure = a_run(
        session, call_id, cards["sentiment"], job_id=job.job_id, status="failed", error="no memory"
    )
    assert runs.store_run(session, failure) != runs.store_run(session, failure) is not None
    assert runs.concluded_in_job(session, job.job_id, run.transcript_id) == concluded
    assert session.scalar(select(func.count()).select_from(SummaryRecord)) == 1


def test_another_job_with_the_same_fingerprint_is_a_run_of_its_own(
    session: Session, call_id: int, cards: dict[str, int]
) -> None:
    first = store_result(session, call_id, cards["summary"], a_summary(), fingerprint="a")
    second = store_result(
        session, call_id, cards["summary"], a_summary(outcome="declined"), fingerprint="b"
    )
    third = store_result(session, call_id, cards["summary"], a_summary(), fingerprint="a")
    assert len({first, second, third}) == 3
    current = show.show_call(session, call_id).current("summary")
    assert current is not None
    assert current.run_id == third, "going back to earlier weights makes their result current again"


@pytest.mark.parametrize(
    ("status", "error", "has_result"),
    [("invalid", None, False), ("failed", None, False), ("ok", "but", True)],
)
def test_an_error_goes_with_the_statuses_that_have_one(
    session: Session,
    call_id: int,
    cards: dict[str, int],
    status: Any,
    error: str | None,
    has_result: bool,
) -> None:
    result = a_summary() if has_result else None
    run = a_run(session, call_id, cards["summary"], status=status, error=error, result=result)
    with pytest.raises(ValueNotAllowedError):
        runs.store_run(session, run)


def test_a_result_goes_with_ok_only(session: Session, call_id: int, cards: dict[str, int]) -> None:
    without = a_run(session, call_id, cards["summary"])
    with pytest.raises(ValueError, match="ok"):
        runs.store_run(session, without)
    with_result = a_run(
        session, call_id, cards["summary"], status="not_applicable", result=a_summary()
    )
    with pytest.raises(ValueError, match="not_applicable"):
        runs.store_run(session, with_result)


@pytest.mark.parametrize(
    ("evidence", "constraint"),
    [
        (StoredEvidence("intent", "supported", 0.5), "ck_field_evidence_supported_has_turn"),
        (StoredEvidence("intent", "no_turn", 1.5), "ck_field_evidence_confidence_range"),
        (
            StoredEvidence("intent", "supported", 0.5, 0, 1, 2),
            "ck_field_evidence_turn_number_range",
        ),
        (StoredEvidence("intent", "supported", 0.5, 1, 9, 2), "ck_field_evidence_end_after_start"),
        (StoredEvidence("intent", "guessed", 0.5), "ck_field_evidence_status_known"),  # type: ignore[arg-type]
    ],
)
def test_evidence_is_checked(
    session: Session, call_id: int, cards: dict[str, int], evidence: StoredEvidence, constraint: str
) -> None:
    run = a_run(session, call_id, cards["lead_score"], result=a_lead(), evidence=(evidence,))
    with pytest.raises(ValueNotAllowedError) as caught:
        runs.store_run(session, run)
    assert caught.value.constraint == constraint


@pytest.mark.parametrize("score", [-1, 101])
def test_scores_are_within_0_and_100(
    session: Session, call_id: int, cards: dict[str, int], score: int
) -> None:
    run = a_run(session, call_id, cards["lead_score"], result=a_lead(score=score))
    with pytest.raises(ValueNotAllowedError, match="ck_lead_records_score_range"):
        runs.store_run(session, run)


@pytest.mark.parametrize(
    "change",
    [
        update(AnalysisRun).values(status="invalid", error="x"),
        update(AnalysisRun).values(fingerprint="other"),
        update(SummaryRecord).values(summary="other"),
        update(SentimentRecord).values(overall="negative"),
        update(LeadRecord).values(score=1),
        update(FieldEvidence).values(confidence=0),
        update(TurnRow).values(text="other"),
    ],
    ids=["status", "fingerprint", "summary", "sentiment", "lead", "evidence", "turn"],
)
def test_what_was_analysed_is_never_rewritten(session: Session, change: Any) -> None:
    make_scored_call(session)
    with pytest.raises(RowFrozenError, match="append-only"):
        session.execute(change)


def test_deleting_a_call_deletes_everything_of_it(session: Session) -> None:
    call_id = make_scored_call(session)
    session.execute(delete(Call).where(Call.id == call_id))
    for table in Base.metadata.sorted_tables:
        if table.name != "scorecards":
            assert session.scalar(select(func.count()).select_from(table)) == 0, table.name


def test_a_scorecard_version_never_changes(session: Session) -> None:
    card = {"name": "upsell", "version": 1, "kind": "custom"}
    first = scorecards.register(session, instructions="a", output_schema={"x": 1}, **card)  # type: ignore[arg-type]
    same = scorecards.register(session, instructions="a", output_schema={"x": 1}, **card)  # type: ignore[arg-type]
    assert (first, first.status) == (same, "draft")
    with pytest.raises(ScorecardChangedError, match="version 1"):
        scorecards.register(session, instructions="b", output_schema={"x": 1}, **card)  # type: ignore[arg-type]


def test_one_version_of_a_scorecard_is_promoted(session: Session) -> None:
    for version in (1, 2):
        scorecards.register(
            session,
            name="upsell",
            version=version,
            instructions=str(version),
            output_schema={},
            kind="custom",
        )
    with pytest.raises(ScorecardNotFoundError):
        scorecards.get(session, "upsell")
    scorecards.promote(session, "upsell", 1)
    scorecards.promote(session, "upsell", 2)
    assert [card.status for card in scorecards.all_versions(session)] == ["retired", "promoted"]
    assert scorecards.get(session, "upsell").version == 2
    assert [card.version for card in scorecards.promoted(session, ["upsell"])] == [2]
    for unknown in (("upsell", 3), ("nope", 1)):
        with pytest.raises(ScorecardNotFoundError, match=unknown[0]):
            scorecards.promote(session, *unknown)
    with pytest.raises(ScorecardNotFoundError, match="nope"):
        scorecards.promoted(session, ["nope"])
    with pytest.raises(ConstraintViolatedError, match="promoted"):
        session.execute(text("UPDATE scorecards SET status = 'promoted'"))


def test_leads_are_rescored_by_another_rule_without_losing_the_first_score(
    session: Session,
) -> None:
    call_ids = [make_scored_call(session, lead=a_lead(score=score)) for score in (85, 40)]
    found = runs.leads_scored_otherwise(session, 2)
    assert [one.call_id for one in found] == call_ids
    assert found[0].lead == a_lead(score=85)
    assert runs.leads_scored_otherwise(session, 2, limit=1, after_run=found[0].run_id) == found[1:]
    for one in found:
        run = runs.NewRun(
            call_id=one.call_id,
            transcript_id=one.transcript_id,
            scorecard_id=one.scorecard_id,
            status="ok",
            fingerprint=one.fingerprint + "+rule2",
            provenance={"rescored_from": one.run_id},
            result=a_lead(score=7, tier="cold", rule_version=2),
            evidence=one.evidence,
        )
        assert runs.store_run(session, run) is not None
    assert runs.leads_scored_otherwise(session, 2) == ()
    assert len(runs.leads_scored_otherwise(session, 1)) == 2
    scores = session.scalars(text("SELECT lead_score FROM call_scores")).all()
    assert scores == [7, 7]
    assert session.scalar(select(func.count()).select_from(LeadRecord)) == 4
