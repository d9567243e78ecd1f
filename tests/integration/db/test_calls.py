"""Taking in calls once, finding them, and where they stand."""

from __future__ import annotations

from datetime import UTC, datetime
from threading import Thread

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from db import queue
from db.enums import REJECTING_VERDICTS
from db.errors import CallNotFoundError, ValueNotAllowedError, ValueUnstorableError
from db.models import Call, Recording
from db.repository import calls
from db.repository.calls import MediaFacts, NewCall, NewRecording, Selection
from db.session import Database
from tests.integration.db.samples import make_call, make_transcript, sha


def a_recording(content: str, verdict: str | None = None) -> NewRecording:
    sha256 = None if verdict in ("missing", "unreadable", "empty") else sha(content)
    return NewRecording(uri=f"/in/{content}.wav", sha256=sha256, facts=MediaFacts(verdict=verdict))


def test_the_same_call_twice_is_one_call(session: Session) -> None:
    first = calls.ingest(session, NewCall("crm", "1"), a_recording("a"))
    second = calls.ingest(session, NewCall("crm", "1"), a_recording("a"))
    assert (first.outcome, first.wants_work) == ("created", True)
    assert (second.outcome, second.wants_work) == ("known", False)
    assert second.call_id == first.call_id
    assert session.scalar(select(func.count()).select_from(Call)) == 1


def test_the_same_bytes_under_another_name_are_the_first_call(session: Session) -> None:
    first = calls.ingest(session, NewCall("crm", "1"), a_recording("a"))
    second = calls.ingest(session, NewCall("crm", "2"), a_recording("a"))
    assert (second.outcome, second.call_id) == ("same_bytes", first.call_id)
    assert session.scalar(select(func.count()).select_from(Call)) == 1


def test_a_second_recording_for_a_call_is_a_conflict_and_keeps_the_first(session: Session) -> None:
    first = calls.ingest(session, NewCall("crm", "1"), a_recording("a"))
    second = calls.ingest(session, NewCall("crm", "1"), a_recording("b"))
    assert (second.outcome, second.wants_work) == ("conflict", False)
    assert calls.recordings_of(session, [first.call_id])[first.call_id].sha256 == sha("a")


def test_the_same_external_id_of_two_sources_is_two_calls(session: Session) -> None:
    first = calls.ingest(session, NewCall("crm", "1"), a_recording("a"))
    second = calls.ingest(session, NewCall("dialer", "1"), a_recording("b"))
    assert first.call_id != second.call_id


@pytest.mark.parametrize("verdict", ["missing", "unreadable", "empty"])
def test_a_recording_that_becomes_readable_is_recovered(session: Session, verdict: str) -> None:
    first = calls.ingest(session, NewCall("crm", "1"), a_recording("a", verdict))
    again = calls.ingest(session, NewCall("crm", "1"), a_recording("a", verdict))
    assert again.outcome == "known"
    second = calls.ingest(session, NewCall("crm", "1"), a_recording("a"))
    assert (second.outcome, second.wants_work, second.call_id) == ("recovered", True, first.call_id)
    stored = calls.recordings_of(session, [first.call_id])[first.call_id]
    assert (stored.verdict, stored.sha256) == (None, sha("a"))


def test_a_recording_that_vanished_after_ingest_is_recovered_by_its_bytes(session: Session) -> None:
    call_id = calls.ingest(session, NewCall("crm", "1"), a_recording("a")).call_id
    stored = calls.recordings_of(session, [call_id])[call_id]
    calls.record_facts(session, stored.id, MediaFacts(verdict="missing", verdict_detail="gone"))
    session.expire_all()
    assert calls.ingest(session, NewCall("crm", "1"), a_recording("a")).outcome == "recovered"


@pytest.mark.parametrize("verdict", sorted(REJECTING_VERDICTS))
def test_other_bytes_replace_a_rejected_recording(session: Session, verdict: str) -> None:
    call_id = calls.ingest(session, NewCall("crm", "1"), a_recording("half")).call_id
    stored = calls.recordings_of(session, [call_id])[call_id]
    calls.record_facts(session, stored.id, MediaFacts(verdict=verdict, sample_rate=8_000))
    session.expire_all()
    again = calls.ingest(session, NewCall("crm", "1"), a_recording("whole"))
    assert (again.outcome, again.wants_work, again.call_id) == ("recovered", True, call_id)
    stored = session.scalars(select(Recording).where(Recording.call_id == call_id)).one()
    assert (stored.verdict, stored.sha256, stored.sample_rate) == (None, sha("whole"), None)


@pytest.mark.parametrize("verdict", ["ok", "mono", "truncated"])
def test_other_bytes_never_replace_a_recording_that_was_scored(
    session: Session, verdict: str
) -> None:
    call_id = calls.ingest(session, NewCall("crm", "1"), a_recording("a")).call_id
    stored = calls.recordings_of(session, [call_id])[call_id]
    calls.record_facts(session, stored.id, MediaFacts(verdict=verdict))
    session.expire_all()
    for other in (a_recording("b"), a_recording("b", "empty")):
        assert calls.ingest(session, NewCall("crm", "1"), other).outcome == "conflict"
    assert calls.recordings_of(session, [call_id])[call_id].sha256 == sha("a")


def test_the_bytes_that_were_rejected_are_known_and_not_tried_again(session: Session) -> None:
    call_id = calls.ingest(session, NewCall("crm", "1"), a_recording("a")).call_id
    stored = calls.recordings_of(session, [call_id])[call_id]
    calls.record_facts(session, stored.id, MediaFacts(verdict="corrupt"))
    session.expire_all()
    assert calls.ingest(session, NewCall("crm", "1"), a_recording("a")).outcome == "known"


def test_recordings_without_bytes_are_not_the_same_recording(session: Session) -> None:
    first = calls.ingest(session, NewCall("crm", "1"), a_recording("a", "empty"))
    second = calls.ingest(session, NewCall("crm", "2"), a_recording("b", "empty"))
    assert (first.outcome, second.outcome) == ("created", "created")
    assert first.call_id != second.call_id


def test_two_processes_with_the_same_bytes_make_one_call(database: Database) -> None:
    outcomes: list[str] = []

    def take_in(external_id: str) -> None:
        with database.unit_of_work() as session:
            outcomes.append(
                calls.ingest(session, NewCall("race", external_id), a_recording("race")).outcome
            )

    threads = [Thread(target=take_in, args=[str(number % 3)]) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 9
    assert outcomes.count("created") == 1
    with database.unit_of_work() as session:
        assert session.scalar(select(func.count()).where(Recording.sha256 == sha("race"))) == 1
        orphans = (
            select(Call.id)
            .outerjoin(Recording)
            .where(Call.source == "race", Recording.id.is_(None))
        )
        assert session.scalars(orphans).all() == []
        session.delete(session.scalars(select(Call).where(Call.source == "race")).one())


def test_text_that_postgres_cannot_hold_is_a_typed_error(session: Session) -> None:
    with pytest.raises(ValueUnstorableError):
        calls.ingest(session, NewCall("crm", "nul\x00"), a_recording("a"))


def test_metadata_must_be_an_object(session: Session) -> None:
    call = NewCall("crm", "1", metadata={"a": [1, {"b": None}]})
    call_id = calls.ingest(session, call, a_recording("a")).call_id
    assert session.get_one(Call, call_id).details == {"a": [1, {"b": None}]}
    with pytest.raises(ValueNotAllowedError) as caught:
        session.execute(update(Call).values({Call.details: [1]}))
    assert caught.value.constraint == "ck_calls_metadata_is_object"


def test_calls_are_found_by_id_external_id_and_source(session: Session) -> None:
    call_id = calls.ingest(session, NewCall("crm", "a/b"), a_recording("a")).call_id
    other = calls.ingest(session, NewCall("dialer", "a/b"), a_recording("b")).call_id
    assert calls.find_call(session, str(call_id)) == call_id
    assert calls.find_call(session, "crm/a/b") == call_id
    assert calls.find_call(session, "a/b") == other
    for unknown in ("0", "nope", "99999999999999999999999", "crm/x"):
        with pytest.raises(CallNotFoundError, match=unknown):
            calls.find_call(session, unknown)


def test_a_selection_holds_all_its_conditions_together(session: Session) -> None:
    may, june = datetime(2026, 5, 2, tzinfo=UTC), datetime(2026, 6, 2, tzinfo=UTC)
    ann_may = make_call(session, agent_id="ann", started_at=may)
    ann_june = make_call(session, agent_id="ann", started_at=june)
    bob_june = make_call(session, agent_id="bob", started_at=june)
    undated = make_call(session)
    queue.enqueue(session, [ann_june], "transcribe")

    def chosen(**conditions: object) -> tuple[int, ...]:
        return calls.select_calls(session, Selection(**conditions))

    assert chosen() == (ann_may, ann_june, bob_june, undated)
    assert chosen(agent_id="ann") == (ann_may, ann_june)
    assert chosen(agent_id="ann", since=june) == (ann_june,)
    assert chosen(until=june) == (ann_may,)
    assert undated in chosen(since=june)
    assert chosen(call_ids=(bob_june, ann_may), agent_id="bob") == (bob_june,)
    assert chosen(statuses=("failed",)) == ()
    assert len(chosen(statuses=("received",))) == 4
    with pytest.raises(CallNotFoundError):
        chosen(call_ids=(ann_may, -1))


def test_reprocessing_skips_calls_without_a_transcript(session: Session) -> None:
    with_transcript, without = make_call(session), make_call(session)
    make_transcript(session, with_transcript)
    done = calls.reprocess(session, [with_transcript, without], "analyze", scorecards=["summary"])
    assert [item.call_id for item in done.enqueued] == [with_transcript]
    assert done.skipped == (without,)
    again = calls.reprocess(session, [with_transcript, without], "transcribe")
    assert [item.created for item in again.enqueued] == [True, True]
    assert again.skipped == ()
