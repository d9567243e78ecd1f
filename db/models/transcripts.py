"""Transcripts, their turns, and the talk metrics computed from the turns."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from analytics.transcript import Role
from db.models.base import Base, CreatedAt, Id, Json, at_least, between, one_of


class TranscriptRow(Base):
    """One transcription of a call's recording; append-only, the newest is the current one."""

    __tablename__ = "transcripts"
    __table_args__ = (
        CheckConstraint("fingerprint <> ''", name="fingerprint_not_empty"),
        at_least("duration_ms", 0),
        at_least("prompt_tokens", 0),
        Index("ix_transcripts_call_id_id", "call_id", text("id DESC")),
        Index("ix_transcripts_recording_id", "recording_id"),
    )

    id: Mapped[Id]
    call_id: Mapped[int] = mapped_column(ForeignKey("calls.id", ondelete="CASCADE"))
    recording_id: Mapped[int] = mapped_column(ForeignKey("recordings.id", ondelete="CASCADE"))
    language: Mapped[str]
    duration_ms: Mapped[int]
    is_empty: Mapped[bool]
    prompt_tokens: Mapped[int]  # estimate that the analyze queue budgets its batches by
    fingerprint: Mapped[str]  # of audio, recogniser, settings
    provenance: Mapped[Json]
    created_at: Mapped[CreatedAt]

    turns: Mapped[list[TurnRow]] = relationship(order_by="TurnRow.number", lazy="raise")


class TurnRow(Base):
    """One utterance; `analytics.transcript.Turn` with its place in a transcript."""

    __tablename__ = "turns"
    __table_args__ = (
        one_of("role", Role),
        at_least("number", 1),
        at_least("start_ms", 0),
        CheckConstraint("end_ms >= start_ms", name="end_after_start"),
        between("confidence", 0, 1),
    )

    transcript_id: Mapped[int] = mapped_column(
        ForeignKey("transcripts.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    role: Mapped[Role] = mapped_column(Text)
    start_ms: Mapped[int]
    end_ms: Mapped[int]
    text: Mapped[str]
    confidence: Mapped[float]


class CallMetrics(Base):
    """`analytics.talk_metrics.TalkMetrics` of one transcript. Null where there was nothing to measure."""

    __tablename__ = "call_metrics"
    __table_args__ = (
        at_least("talk_time_agent_ms", 0),
        at_least("talk_time_caller_ms", 0),
        at_least("talk_time_total_ms", 0),
        at_least("non_talk_time_total_ms", 0),
        at_least("interruptions_agent_count", 0),
        at_least("interruptions_caller_count", 0),
        at_least("agent_response_gap_p50_ms", 0),
        at_least("agent_response_gap_p95_ms", 0),
        at_least("talk_speed_agent_wpm", 0),
        at_least("talk_speed_caller_wpm", 0),
    )

    transcript_id: Mapped[int] = mapped_column(
        ForeignKey("transcripts.id", ondelete="CASCADE"), primary_key=True
    )
    talk_time_agent_ms: Mapped[int]
    talk_time_caller_ms: Mapped[int]
    talk_time_total_ms: Mapped[int]
    non_talk_time_total_ms: Mapped[int]
    interruptions_agent_count: Mapped[int]
    interruptions_caller_count: Mapped[int]
    agent_response_gap_p50_ms: Mapped[int | None]
    agent_response_gap_p95_ms: Mapped[int | None]
    talk_speed_agent_wpm: Mapped[float | None]
    talk_speed_caller_wpm: Mapped[float | None]
