"""Scorecards, analysis runs and the evidence of their fields."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.enums import EvidenceStatus, RunStatus, ScorecardKind, ScorecardStatus
from db.models.base import Base, CreatedAt, Id, Json, at_least, between, one_of


class Scorecard(Base):
    """A named, versioned set of instructions with an output schema. A version never changes once it is stored."""

    __tablename__ = "scorecards"
    __table_args__ = (
        UniqueConstraint("name", "version"),
        Index(
            "uq_scorecards_one_promoted",
            "name",
            unique=True,
            postgresql_where=text("status = 'promoted'"),
        ),
        one_of("kind", ScorecardKind),
        one_of("status", ScorecardStatus),
        CheckConstraint("name ~ '^[a-z][a-z0-9_]*$'", name="name_identifier"),
        at_least("version", 1),
    )

    id: Mapped[Id]
    name: Mapped[str]
    version: Mapped[int]
    kind: Mapped[ScorecardKind] = mapped_column(Text)
    status: Mapped[ScorecardStatus] = mapped_column(Text, server_default="draft")
    instructions: Mapped[str]
    # json, not jsonb, which sorts keys: fields are decoded in the order in which the schema names them
    output_schema: Mapped[dict[str, Any]] = mapped_column(JSON)
    sha256: Mapped[str]  # of instructions and schema
    created_at: Mapped[CreatedAt]


class AnalysisRun(Base):
    """One attempt to produce one record of one call. Append-only; the newest conclusive run of a promoted scorecard is
    current (view `current_runs`). `record` holds the record of a custom scorecard; built-in records have tables.
    """

    __tablename__ = "analysis_runs"
    __table_args__ = (
        one_of("status", RunStatus),
        CheckConstraint("status <> 'ok' OR error IS NULL", name="ok_has_no_error"),
        CheckConstraint(
            "status NOT IN ('invalid', 'failed') OR error IS NOT NULL", name="bad_has_error"
        ),
        CheckConstraint("record IS NULL OR status = 'ok'", name="record_only_when_ok"),
        CheckConstraint("fingerprint <> ''", name="fingerprint_not_empty"),
        at_least("num_steps", 0),
        at_least("num_tokens", 0),
        at_least("engine_ms", 0),
        # A job that is repeated after a crash stores no second copy of what it had stored before the crash.
        Index(
            "uq_analysis_runs_once_per_job",
            "job_id",
            "scorecard_id",
            "transcript_id",
            "fingerprint",
            unique=True,
            postgresql_where=text("status <> 'failed'"),
        ),
        Index(
            "ix_analysis_runs_current",
            "call_id",
            "scorecard_id",
            text("id DESC"),
            postgresql_where=text("status IN ('ok', 'not_applicable')"),
        ),
        Index("ix_analysis_runs_call_id", "call_id"),
        Index("ix_analysis_runs_transcript_id", "transcript_id"),
        Index("ix_analysis_runs_job_id", "job_id"),
        Index("ix_analysis_runs_created_at", "created_at"),
    )

    id: Mapped[Id]
    call_id: Mapped[int] = mapped_column(ForeignKey("calls.id", ondelete="CASCADE"))
    transcript_id: Mapped[int] = mapped_column(ForeignKey("transcripts.id", ondelete="CASCADE"))
    scorecard_id: Mapped[int] = mapped_column(ForeignKey("scorecards.id"))
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    status: Mapped[RunStatus] = mapped_column(Text)
    error: Mapped[str | None]
    fingerprint: Mapped[str]
    provenance: Mapped[Json]
    record: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    num_steps: Mapped[int | None]
    num_tokens: Mapped[int | None]
    engine_ms: Mapped[float | None]
    created_at: Mapped[CreatedAt]


class FieldEvidence(Base):
    """How sure the model was of one field of a record, and the turn that supports it."""

    __tablename__ = "field_evidence"
    __table_args__ = (
        one_of("status", EvidenceStatus),
        between("confidence", 0, 1),
        at_least("turn_number", 1),
        CheckConstraint(
            "(status = 'supported') = (turn_number IS NOT NULL AND start_ms IS NOT NULL AND end_ms IS NOT NULL)",
            name="supported_has_turn",
        ),
        CheckConstraint("end_ms >= start_ms", name="end_after_start"),
    )

    run_id: Mapped[int] = mapped_column(
        ForeignKey("analysis_runs.id", ondelete="CASCADE"), primary_key=True
    )
    field: Mapped[str] = mapped_column(primary_key=True)
    confidence: Mapped[float | None]
    turn_number: Mapped[int | None]
    start_ms: Mapped[int | None]
    end_ms: Mapped[int | None]
    status: Mapped[EvidenceStatus] = mapped_column(Text)
