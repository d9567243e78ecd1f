"""The built-in records: what the analysis model fills in for every call.

`unknown` means the call does not tell; `not_applicable` means the question makes no sense for it (nobody spoke, a wrong
number). Each `*_turn` field names the turn that supports the field before it, or is null.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

EvidenceTurn = Annotated[int, Field(ge=1, json_schema_extra={"x-evidence": "turn"})]

Outcome = Literal[
    "booked",
    "rescheduled",
    "cancelled",
    "message_taken",
    "transferred",
    "answered",
    "declined",
    "unresolved",
    "not_applicable",
]
Mood = Literal["positive", "neutral", "negative", "mixed", "unknown", "not_applicable"]
Intent = Literal[
    "book",
    "reschedule",
    "cancel",
    "price",
    "question",
    "complaint",
    "emergency",
    "message",
    "solicitation",
    "unknown",
    "not_applicable",
]
Urgency = Literal["high", "medium", "low", "unknown", "not_applicable"]
BudgetFit = Literal["fits", "stretch", "over", "unknown", "not_applicable"]
Authority = Literal["self", "shared", "other", "unknown", "not_applicable"]
Timeline = Literal["today", "week", "month", "later", "unknown", "not_applicable"]
Commitment = Literal["committed", "considering", "refused", "unknown", "not_applicable"]
Objection = Literal["none", "price", "timing", "trust", "competitor", "unknown", "not_applicable"]


class Record(BaseModel):
    """Base of every record: no field beyond the schema, no value changed after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Summary(Record):
    """What happened on the call and what comes next."""

    summary: Annotated[str, Field(min_length=1, max_length=180)]
    outcome: Outcome
    outcome_turn: EvidenceTurn | None
    caller_name: Annotated[str, Field(max_length=40)] | None
    service: Annotated[str, Field(max_length=48)] | None
    appointment: Annotated[str, Field(max_length=40)] | None
    # a digit is a token, so prices take more of them than words do
    price: Annotated[str, Field(max_length=16, json_schema_extra={"x-slot-tokens": 10})] | None
    next_step: Annotated[str, Field(max_length=80)] | None


class Sentiment(Record):
    """The caller's mood over the whole call, at its start and at its end."""

    overall: Mood
    overall_turn: EvidenceTurn | None
    start: Mood
    end: Mood


class LeadFeatures(Record):
    """What the call says about the caller as a lead. Score and tier follow from these by a rule."""

    intent: Intent
    intent_turn: EvidenceTurn | None
    urgency: Urgency
    urgency_turn: EvidenceTurn | None
    budget_fit: BudgetFit
    budget_fit_turn: EvidenceTurn | None
    authority: Authority
    authority_turn: EvidenceTurn | None
    timeline: Timeline
    timeline_turn: EvidenceTurn | None
    commitment: Commitment
    commitment_turn: EvidenceTurn | None
    objection: Objection
    objection_turn: EvidenceTurn | None
