"""The records of the built-in scorecards, one typed row per run. Evidence lives in `field_evidence`."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Mapped, mapped_column

from analytics import records
from analytics.lead_score import Tier
from db.models.base import Base, at_least, between, one_of


class SummaryRecord(Base):
    """`analytics.records.Summary`."""

    __tablename__ = "summary_records"
    __table_args__ = (
        one_of("outcome", records.Outcome),
        CheckConstraint("summary <> ''", name="summary_not_empty"),
        Index("ix_summary_records_outcome", "outcome"),
    )

    run_id: Mapped[int] = mapped_column(
        ForeignKey("analysis_runs.id", ondelete="CASCADE"), primary_key=True
    )
    summary: Mapped[str]
    outcome: Mapped[str]
    caller_name: Mapped[str | None]
    service: Mapped[str | None]
    appointment: Mapped[str | None]
    price: Mapped[str | None]
    next_step: Mapped[str | None]


class SentimentRecord(Base):
    """`analytics.records.Sentiment`; SQL function of a mood's score: see the view `call_scores`."""

    __tablename__ = "sentiment_records"
    __table_args__ = (
        one_of("overall", records.Mood),
        one_of("start_mood", records.Mood),
        one_of("end_mood", records.Mood),
    )

    run_id: Mapped[int] = mapped_column(
        ForeignKey("analysis_runs.id", ondelete="CASCADE"), primary_key=True
    )
    overall: Mapped[str]
    # `end` is a reserved word of SQL, so both carry what they are the start and end of.
    start_mood: Mapped[str]
    end_mood: Mapped[str]


class LeadRecord(Base):
    """`analytics.records.LeadFeatures` with the score, tier and reasons that a versioned rule computed from them."""

    __tablename__ = "lead_records"
    __table_args__ = (
        one_of("intent", records.Intent),
        one_of("urgency", records.Urgency),
        one_of("budget_fit", records.BudgetFit),
        one_of("authority", records.Authority),
        one_of("timeline", records.Timeline),
        one_of("commitment", records.Commitment),
        one_of("objection", records.Objection),
        between("score", 0, 100),
        one_of("tier", Tier),
        CheckConstraint("(tier = 'none') = (score IS NULL)", name="no_score_without_tier"),
        at_least("rule_version", 1),
        Index("ix_lead_records_score", "score"),
    )

    run_id: Mapped[int] = mapped_column(
        ForeignKey("analysis_runs.id", ondelete="CASCADE"), primary_key=True
    )
    intent: Mapped[str]
    urgency: Mapped[str]
    budget_fit: Mapped[str]
    authority: Mapped[str]
    timeline: Mapped[str]
    commitment: Mapped[str]
    objection: Mapped[str]
    score: Mapped[int | None]  # null, with tier none, when the rule says that this is no lead
    tier: Mapped[Tier] = mapped_column(Text)
    reasons: Mapped[list[str]] = mapped_column(ARRAY(TEXT))
    rule_version: Mapped[int]
