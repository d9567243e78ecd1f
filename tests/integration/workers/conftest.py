"""The real command on a real database: `aftercall` runs it as a shell would, `add_scored_call` fills rows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from analytics.lead_score import LEAD_RULE
from analytics.records import LeadFeatures, Sentiment, Summary
from analytics.talk_metrics import measure
from analytics.transcript import Transcript, Turn
from db import queue
from db.repository import calls, runs, scorecards, transcripts
from db.repository.calls import MediaFacts, NewCall, NewRecording
from db.repository.records import ScoredLead, StoredEvidence
from db.repository.runs import NewRun
from db.session import Database
from workers.cli import app
from workers.upgrade import register_built_in

Aftercall = Callable[..., Result]
AddScoredCall = Callable[..., int]

TURNS = (
    ("agent", 0, 4_000, "Thanks for calling Riverside Dental, how can I help?"),
    ("caller", 4_500, 9_000, "Hi, this is Maria Lopez, I need a cleaning as soon as possible."),
    ("agent", 9_400, 13_000, "We have Tuesday at nine for ninety dollars, does that work?"),
    ("caller", 13_200, 15_000, "Perfect, book it."),
)


@pytest.fixture
def aftercall(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Aftercall:
    """Run the command against this module's database, with a broker that does not answer."""
    for name in [name for name in os.environ if name.startswith("AFTERCALL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AFTERCALL_DATABASE_URL", database_url)
    # port 1 is refused at once on every machine
    monkeypatch.setenv("AFTERCALL_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("AFTERCALL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: str | Path, **environment: str) -> Result:
        return CliRunner().invoke(app, [str(one) for one in arguments], env=environment)

    return run


@pytest.fixture
def no_calls(database: Database) -> None:
    """Begin with a database that has no calls; scorecards stay."""
    with database.unit_of_work() as session:
        session.connection().exec_driver_sql("TRUNCATE calls RESTART IDENTITY CASCADE")


@pytest.fixture
def add_scored_call(database: Database) -> AddScoredCall:
    """Store a call as the two stages would have left it, and return its id."""

    def add(
        external_id: str = "call-1",
        *,
        agent_id: str | None = "riverside",
        started_at: datetime = datetime(2026, 11, 20, 14, 3, tzinfo=UTC),
        summary: str = "Maria Lopez booked a cleaning for Tuesday at nine.",
        commitment: str = "committed",
        start: str = "neutral",
        end: str = "positive",
    ) -> int:
        transcript = Transcript(
            tuple(
                Turn(number, role, begin, stop, text, 0.95)  # type: ignore[arg-type]
                for number, (role, begin, stop, text) in enumerate(TURNS, start=1)
            ),
            15_000,
            "en",
        )
        features = LeadFeatures.model_validate(
            {
                **dict.fromkeys(LeadFeatures.model_fields),
                "intent": "book",
                "intent_turn": 2,
                "urgency": "high",
                "urgency_turn": 2,
                "budget_fit": "fits",
                "authority": "self",
                "timeline": "week",
                "commitment": commitment,
                "objection": "none",
            }
        )
        lead = LEAD_RULE.score(features)
        results = {
            "summary": Summary(
                summary=summary,
                outcome="booked",
                outcome_turn=4,
                caller_name="Maria Lopez",
                service="cleaning",
                appointment="Tuesday at nine",
                price="90 dollars",
                next_step=None,
            ),
            "sentiment": Sentiment(overall=end, overall_turn=4, start=start, end=end),  # type: ignore[arg-type]
            "lead_score": ScoredLead(
                features, lead.score, lead.tier, lead.reasons, str(lead.rule_version)
            ),
        }
        with database.unit_of_work() as session:
            call_id = calls.ingest(
                session,
                NewCall("local", external_id, agent_id=agent_id, started_at=started_at),
                NewRecording(
                    f"/recordings/{external_id}.wav",
                    hashlib.sha256(external_id.encode()).hexdigest(),
                    240_044,
                ),
            ).call_id
            recording = calls.recordings_of(session, [call_id])[call_id]
            calls.record_facts(
                session,
                recording.id,
                MediaFacts("ok", None, "wav", "pcm_s16le", 8_000, 2, 15_000),
            )
            transcript_id = transcripts.store_transcript(
                session,
                call_id=call_id,
                recording_id=recording.id,
                transcript=transcript,
                metrics=measure(transcript),
                fingerprint="of the audio",
                provenance={},
                prompt_tokens=80,
            )
            register_built_in(session)
            for card in scorecards.promoted(session, results):
                runs.store_run(
                    session,
                    NewRun(
                        call_id,
                        transcript_id,
                        card.id,
                        "ok",
                        f"{card.name} of {external_id}",
                        {},
                        result=results[card.name],  # type: ignore[arg-type]
                        evidence=_evidence(card.name),
                    ),
                )
            queue.enqueue(session, [call_id], "analyze")
        with database.unit_of_work() as session:
            lease = queue.claim(session, "analyze", worker="test", limit=1)
            assert lease is not None
            queue.finish(session, lease.token, lease.jobs[0].id)
        return call_id

    return add


def _evidence(scorecard: str) -> tuple[StoredEvidence, ...]:
    if scorecard == "summary":
        return (
            StoredEvidence("outcome", "supported", 0.97, 4, 13_200, 15_000),
            StoredEvidence("caller_name", "not_citable", 0.41),
        )
    if scorecard == "lead_score":
        return (StoredEvidence("intent", "supported", 0.99, 2, 4_500, 9_000),)
    return (StoredEvidence("overall", "supported", 0.9, 4, 13_200, 15_000),)
