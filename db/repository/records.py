"""Records: the typed rows of the built-in scorecards, custom ones as JSON, and the evidence of their fields."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from analytics.evidence import TURN_SUFFIX
from analytics.lead_score import Tier
from analytics.records import LeadFeatures, Sentiment, Summary
from db.enums import EvidenceStatus
from db.models import AnalysisRun, FieldEvidence, LeadRecord, SentimentRecord, SummaryRecord
from db.repository.arrays import among

RecordType = TypeVar("RecordType", Summary, Sentiment, LeadFeatures)
_SUMMARY_COLUMNS = (
    "summary",
    "outcome",
    "caller_name",
    "service",
    "appointment",
    "price",
    "next_step",
)
_LEAD_FEATURES = (
    "intent",
    "urgency",
    "budget_fit",
    "authority",
    "timeline",
    "commitment",
    "objection",
)


@dataclass(frozen=True, slots=True)
class ScoredLead:
    """A lead's features with what a versioned rule made of them. `score` 0 to 100, or None where there is no lead."""

    features: LeadFeatures
    score: int | None
    tier: Tier
    reasons: tuple[str, ...]
    rule_version: int


# What a run with status ok produced: a built-in record, or the dict of a custom scorecard.
Result = Summary | Sentiment | ScoredLead | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoredEvidence:
    """One field's confidence and support; `analytics.evidence.Evidence` with a confidence."""

    field: str
    status: EvidenceStatus
    confidence: float | None
    turn_number: int | None = None
    start_ms: int | None = None
    end_ms: int | None = None


def store_record(session: Session, run_id: int, result: Summary | Sentiment | ScoredLead) -> None:
    """Write the typed row of a built-in record."""
    match result:
        case Summary():
            values = {name: getattr(result, name) for name in _SUMMARY_COLUMNS}
            session.execute(insert(SummaryRecord).values(run_id=run_id, **values))
        case Sentiment():
            moods = {"overall": result.overall, "start_mood": result.start, "end_mood": result.end}
            session.execute(insert(SentimentRecord).values(run_id=run_id, **moods))
        case ScoredLead():
            features = {name: getattr(result.features, name) for name in _LEAD_FEATURES}
            session.execute(
                insert(LeadRecord).values(
                    run_id=run_id,
                    **features,
                    score=result.score,
                    tier=result.tier,
                    reasons=list(result.reasons),
                    rule_version=result.rule_version,
                )
            )


def store_evidence(session: Session, run_id: int, evidence: Collection[StoredEvidence]) -> None:
    """Write the evidence of a run's fields."""
    if evidence:
        session.execute(
            insert(FieldEvidence), [{"run_id": run_id, **asdict(item)} for item in evidence]
        )


def evidence_of(
    session: Session, run_ids: Collection[int]
) -> dict[int, tuple[StoredEvidence, ...]]:
    """The evidence of each run, by run id, in order of field name."""
    rows = session.scalars(
        select(FieldEvidence)
        .where(among(FieldEvidence.run_id, run_ids))
        .order_by(FieldEvidence.run_id, FieldEvidence.field)
    )
    found: dict[int, list[StoredEvidence]] = {}
    for row in rows:
        found.setdefault(row.run_id, []).append(
            StoredEvidence(
                row.field, row.status, row.confidence, row.turn_number, row.start_ms, row.end_ms
            )
        )
    return {run_id: tuple(items) for run_id, items in found.items()}


def records_of(session: Session, run_ids: Collection[int]) -> dict[int, Result]:
    """The record of each run that has one, by run id. A cited turn that did not exist reads as null."""
    custom = select(AnalysisRun.id, AnalysisRun.record).where(AnalysisRun.record.is_not(None))
    found: dict[int, Result] = {
        row.id: row.record for row in session.execute(custom.where(among(AnalysisRun.id, run_ids)))
    }
    turns = {run_id: _turn_fields(items) for run_id, items in evidence_of(session, run_ids).items()}
    for row in session.scalars(select(SummaryRecord).where(among(SummaryRecord.run_id, run_ids))):
        values = {name: getattr(row, name) for name in _SUMMARY_COLUMNS}
        found[row.run_id] = _record(Summary, values, turns.get(row.run_id))
    for mood in session.scalars(
        select(SentimentRecord).where(among(SentimentRecord.run_id, run_ids))
    ):
        values = {"overall": mood.overall, "start": mood.start_mood, "end": mood.end_mood}
        found[mood.run_id] = _record(Sentiment, values, turns.get(mood.run_id))
    for lead in session.scalars(select(LeadRecord).where(among(LeadRecord.run_id, run_ids))):
        values = {name: getattr(lead, name) for name in _LEAD_FEATURES}
        features = _record(LeadFeatures, values, turns.get(lead.run_id))
        found[lead.run_id] = ScoredLead(
            features, lead.score, lead.tier, tuple(lead.reasons), lead.rule_version
        )
    return found


def _turn_fields(evidence: Iterable[StoredEvidence]) -> dict[str, int | None]:
    return {f"{item.field}{TURN_SUFFIX}": item.turn_number for item in evidence}


def _record(
    model: type[RecordType], values: Mapping[str, Any], turns: Mapping[str, int | None] | None
) -> RecordType:
    """The record from its row and the turns of its evidence; fields that cite no turn have none in the model."""
    cited = {
        name: (turns or {}).get(name) for name in model.model_fields if name.endswith(TURN_SUFFIX)
    }
    return model.model_validate({**values, **cited})
