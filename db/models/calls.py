"""Calls and their recordings."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.enums import Direction, Verdict
from db.models.base import Base, CreatedAt, Id, Moment, at_least, between, one_of


class Call(Base):
    """One conversation. Its status is derived: view `call_status`."""

    __tablename__ = "calls"
    __table_args__ = (
        UniqueConstraint("source", "external_id"),
        one_of("direction", Direction),
        CheckConstraint("source <> ''", name="source_not_empty"),
        CheckConstraint("external_id <> ''", name="external_id_not_empty"),
        CheckConstraint("jsonb_typeof(metadata) = 'object'", name="metadata_is_object"),
        Index("ix_calls_agent_id_started_at", "agent_id", "started_at"),
        Index("ix_calls_started_at", text("coalesce(started_at, created_at)")),
        Index("ix_calls_caller_key", "caller_key", postgresql_where=text("caller_key IS NOT NULL")),
    )

    id: Mapped[Id]
    source: Mapped[str]
    external_id: Mapped[str]
    agent_id: Mapped[str | None]
    agent_version: Mapped[str | None]
    direction: Mapped[Direction] = mapped_column(Text, server_default="unknown")
    started_at: Mapped[Moment | None]
    campaign: Mapped[str | None]
    caller_key: Mapped[str | None]  # a hash of the caller's number: tells repeat callers, not who
    end_reason: Mapped[str | None]  # as the telephony platform gave it
    details: Mapped[dict[str, Any]] = mapped_column(
        "metadata", JSONB, server_default=text("'{}'::jsonb")
    )
    created_at: Mapped[CreatedAt]


class Recording(Base):
    """The audio file of a call. `sha256` is null only when its bytes could never be read."""

    __tablename__ = "recordings"
    __table_args__ = (
        UniqueConstraint("call_id"),
        UniqueConstraint("sha256"),
        one_of("verdict", Verdict),
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256_hex"),
        CheckConstraint(
            "sha256 IS NOT NULL OR verdict IN ('missing', 'unreadable')", name="sha256_or_unread"
        ),
        at_least("size_bytes", 0),
        at_least("duration_ms", 0),
        at_least("sample_rate", 1),
        at_least("channels", 1),
        between("agent_channel", 0, 1),
        Index("ix_recordings_verdict", "verdict"),
    )

    id: Mapped[Id]
    call_id: Mapped[int] = mapped_column(ForeignKey("calls.id", ondelete="CASCADE"))
    uri: Mapped[str]
    sha256: Mapped[str | None]
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    container: Mapped[str | None]
    codec: Mapped[str | None]
    sample_rate: Mapped[int | None]
    channels: Mapped[int | None]
    duration_ms: Mapped[int | None]
    agent_channel: Mapped[int | None]  # null: the setting decides
    verdict: Mapped[Verdict | None] = mapped_column(Text)  # null until the media guard has looked
    verdict_detail: Mapped[str | None]
    checked_at: Mapped[Moment | None]
    created_at: Mapped[CreatedAt]
