"""Short ways to make calls, transcripts and scorecards."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import count
from typing import Any

from sqlalchemy.orm import Session

from analytics.evidence import locate
from analytics.lead_score import Tier
from analytics.records import LeadFeatures, Sentiment, Summary
from analytics.scorecards import BUILT_IN
from analytics.talk_metrics import measure
from analytics.transcript import Transcript, Turn
from db import queue
from db.repository import calls, runs, scorecards, transcripts
from db.repository.records import ScoredLead, StoredEvidence

TURNS = (
    Turn(1, "agent", 0, 2_000, "Thanks for calling, how can I help?", 0.9),
    Turn(2, "caller", 2_500, 6_000, "I would like to book a cut for Friday.", 0.8),
    Turn(3, "agent", 6_400, 9_000, "You are booked for Friday at nine.", 0.95),
)
TRANSCRIPT = Transcript(TURNS, duration_ms=10_000, language="en")

_number = count(1)


def make_call(session: Session, **fields: object) -> int:
    """A new call with a readable recording of its own; `fields` go to NewCall."""
    name = f"call-{next(_number)}"
    values: dict[str, Any] = {"source": "tests", "external_id": name, **fields}
    recording = calls.NewRecording(uri=f"/{name}.wav", sha256=sha(name))
    return calls.ingest(session, calls.NewCall(**values), recording).call_id


def make_transcript(session: Session, call_id: int, turns: tuple[Turn, ...] = TURNS) -> int:
    """A transcript of the call's recording."""
    transcript = Transcript(turns, duration_ms=10_000, language="en")
    recording = calls.recordings_of(session, [call_id])[call_id]
    return transcripts.store_transcript(
        session,
        call_id=call_id,
        recording_id=recording.id,
        transcript=transcript,
        metrics=measure(transcript),
        fingerprint="asr-1",
        provenance={"asr": "tiny"},
        prompt_tokens=100,
    )


def promote_built_in(session: Session) -> dict[str, int]:
    """Register and promote the built-in scorecards; ids by name."""
    for card in BUILT_IN:
        scorecards.register(
            session,
            name=card.name,
            version=card.version,
            instructions=card.instructions,
            output_schema=card.schema,
            kind="builtin",
        )
        scorecards.promote(session, card.name, card.version)
    return {card.name: card.id for card in scorecards.promoted(session)}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def a_summary(**changes: Any) -> Summary:
    values = {
        "summary": "Books a cut for Friday at nine.",
        "outcome": "booked",
        "outcome_turn": 3,
        "caller_name": None,
        "service": "cut",
        "appointment": "Friday at nine",
        "price": None,
        "next_step": None,
    }
    return Summary.model_validate({**values, **changes})


def a_sentiment(
    start: str = "neutral", end: str = "positive", overall: str = "positive"
) -> Sentiment:
    values = {"overall": overall, "overall_turn": 2, "start": start, "end": end}
    return Sentiment.model_validate(values)


def a_lead(
    score: int | None = 85, tier: Tier = "hot", rule_version: int = 1, **changes: Any
) -> ScoredLead:
    values = {
        "intent": "book",
        "urgency": "high",
        "budget_fit": "fits",
        "authority": "self",
        "timeline": "week",
        "commitment": "committed",
        "objection": "none",
    }
    turns = dict.fromkeys((f"{name}_turn" for name in values), None)
    features = LeadFeatures.model_validate({**values, **turns, "intent_turn": 2, **changes})
    return ScoredLead(features, score, tier, ("intent book +30", "urgency high +20"), rule_version)


def evidence_for(result: Summary | Sentiment | ScoredLead) -> tuple[StoredEvidence, ...]:
    """Evidence as the analyze worker makes it: one row for each value, with the turn where there is one."""
    record = result.features if isinstance(result, ScoredLead) else result
    located = {one.field: one for one in locate(record.model_dump(), TRANSCRIPT)}
    rows = []
    for name in type(record).model_fields:
        if name.endswith("_turn"):
            continue
        if name in located:
            one = located[name]
            rows.append(
                StoredEvidence(name, one.status, 0.75, one.turn_number, one.start_ms, one.end_ms)
            )
        else:
            rows.append(StoredEvidence(name, "not_citable", 0.5))
    return tuple(rows)


def store_result(
    session: Session,
    call_id: int,
    scorecard_id: int,
    result: Summary | Sentiment | ScoredLead,
    **changes: Any,
) -> int:
    """A good run of the call's newest transcript."""
    transcript_id = transcripts.current_transcripts(session, [call_id])[call_id].id
    run = runs.NewRun(
        call_id=call_id,
        transcript_id=transcript_id,
        scorecard_id=scorecard_id,
        status="ok",
        fingerprint="f1",
        provenance={"weights": "abc"},
        result=result,
        evidence=evidence_for(result),
        engine_ms=12.5,
    )
    run_id = runs.store_run(session, replace(run, **changes))
    assert run_id is not None
    return run_id


def make_scored_call(
    session: Session,
    *,
    summary: Summary | None = None,
    sentiment: Sentiment | None = None,
    lead: ScoredLead | None = None,
    **fields: object,
) -> int:
    """A call all the way through the pipeline, by the same functions as the workers use."""
    cards = promote_built_in(session)
    call_id = make_call(session, **fields)
    for stage in ("transcribe", "analyze"):
        queue.enqueue(session, [call_id], stage, priority=9)
        lease = queue.claim(session, stage, worker="w", limit=1)
        assert lease is not None
        if stage == "transcribe":
            make_transcript(session, call_id)
        else:
            store_result(session, call_id, cards["summary"], summary or a_summary())
            store_result(session, call_id, cards["sentiment"], sentiment or a_sentiment())
            store_result(session, call_id, cards["lead_score"], lead or a_lead())
        queue.finish(session, lease.token, lease.ids[0])
    return call_id
