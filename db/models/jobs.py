"""The job queue's table. Its statements are in db/sql/queue.sql, its Python face is db/queue.py."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, SmallInteger, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Mapped, mapped_column

from db.enums import JobState, Stage
from db.models.base import Base, CreatedAt, Id, Moment, at_least, one_of


class Job(Base):
    """One piece of work on one call. Rows that are done stay: they are the call's history."""

    __tablename__ = "jobs"
    __table_args__ = (
        one_of("stage", Stage),
        one_of("state", JobState),
        at_least("attempts", 0),
        at_least("tokens", 0),
        at_least("batch_size", 1),
        CheckConstraint("cardinality(scorecards) > 0", name="scorecards_not_empty"),
        CheckConstraint("scorecards IS NULL OR stage = 'analyze'", name="scorecards_only_analyze"),
        CheckConstraint(
            "(state = 'leased') = (lease_token IS NOT NULL)"
            " AND (state = 'leased') = (lease_until IS NOT NULL)"
            " AND (state = 'leased') = (leased_at IS NOT NULL)"
            " AND (state = 'leased') = (batch_size IS NOT NULL)",
            name="lease_only_when_leased",
        ),
        CheckConstraint("state = 'leased' OR NOT again", name="again_only_when_leased"),
        CheckConstraint("(state IN ('done', 'dead')) = (finished_at IS NOT NULL)", name="finished"),
        CheckConstraint("state <> 'dead' OR last_error IS NOT NULL", name="dead_has_error"),
        Index(
            "uq_jobs_one_live",
            "call_id",
            "stage",
            unique=True,
            postgresql_where=text("state IN ('ready', 'leased')"),
        ),
        Index(
            "ix_jobs_ready",
            "stage",
            text("priority DESC"),
            "run_after",
            "id",
            postgresql_where=text("state = 'ready'"),
        ),
        Index("ix_jobs_leased", "lease_until", postgresql_where=text("state = 'leased'")),
        Index("ix_jobs_dead", "finished_at", postgresql_where=text("state = 'dead'")),
        Index("ix_jobs_call_id_id", "call_id", text("id DESC")),
    )

    id: Mapped[Id]
    call_id: Mapped[int] = mapped_column(ForeignKey("calls.id", ondelete="CASCADE"))
    stage: Mapped[Stage] = mapped_column(Text)
    state: Mapped[JobState] = mapped_column(Text, server_default="ready")
    scorecards: Mapped[list[str] | None] = mapped_column(ARRAY(TEXT))  # null: all promoted ones
    priority: Mapped[int] = mapped_column(SmallInteger, server_default="0")  # higher goes first
    tokens: Mapped[int] = mapped_column(server_default="0")  # what the batch budget counts
    run_after: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    attempts: Mapped[int] = mapped_column(server_default="0")
    isolate: Mapped[bool] = mapped_column(server_default=text("false"))  # run alone from now on
    again: Mapped[bool] = mapped_column(server_default=text("false"))  # asked for while leased
    lease_token: Mapped[UUID | None]
    lease_until: Mapped[Moment | None]
    leased_at: Mapped[Moment | None]
    batch_size: Mapped[int | None]  # jobs claimed together: tells who can be blamed for a crash
    worker: Mapped[str | None]
    error_class: Mapped[str | None]
    last_error: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[Moment | None]
