"""Transcripts: writing one with its turns and metrics, reading the current ones of a batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from analytics.talk_metrics import TalkMetrics
from analytics.transcript import Transcript, Turn
from db.models import CallMetrics, TranscriptRow, TurnRow
from db.repository.arrays import among


@dataclass(frozen=True, slots=True)
class StoredTranscript:
    """A call's transcript with its place in the database and the fingerprint of how it was made."""

    id: int
    call_id: int
    fingerprint: str
    transcript: Transcript


def store_transcript(
    session: Session,
    *,
    call_id: int,
    recording_id: int,
    transcript: Transcript,
    metrics: TalkMetrics,
    fingerprint: str,
    provenance: Mapping[str, Any],
    prompt_tokens: int,
) -> int:
    """Append a transcript with its turns and metrics, which makes it the current one, and return its id.

    `prompt_tokens` is an estimate; the analyze queue fills its batches by it.
    """
    row = TranscriptRow(
        call_id=call_id,
        recording_id=recording_id,
        language=transcript.language,
        duration_ms=transcript.duration_ms,
        is_empty=transcript.is_empty,
        prompt_tokens=prompt_tokens,
        fingerprint=fingerprint,
        provenance=dict(provenance),
    )
    session.add(row)
    session.flush()
    if transcript.turns:
        session.execute(
            insert(TurnRow),
            [{"transcript_id": row.id, **asdict(turn)} for turn in transcript.turns],
        )
    session.execute(insert(CallMetrics).values(transcript_id=row.id, **asdict(metrics)))
    return row.id


def current_transcripts(session: Session, call_ids: Collection[int]) -> dict[int, StoredTranscript]:
    """The newest transcript of each of these calls, by call id; calls without one are left out."""
    newest = (
        select(func.max(TranscriptRow.id))
        .where(among(TranscriptRow.call_id, call_ids))
        .group_by(TranscriptRow.call_id)
    )
    rows = session.scalars(select(TranscriptRow).where(TranscriptRow.id.in_(newest))).all()
    turns = _turns_of(session, [row.id for row in rows])
    return {row.call_id: _stored(row, turns.get(row.id, ())) for row in rows}


def _turns_of(session: Session, transcript_ids: Collection[int]) -> dict[int, tuple[Turn, ...]]:
    rows = session.scalars(
        select(TurnRow)
        .where(among(TurnRow.transcript_id, transcript_ids))
        .order_by(TurnRow.transcript_id, TurnRow.number)
    )
    return {
        transcript_id: tuple(_turn(row) for row in group)
        for transcript_id, group in groupby(rows, key=lambda row: row.transcript_id)
    }


def _turn(row: TurnRow) -> Turn:
    return Turn(row.number, row.role, row.start_ms, row.end_ms, row.text, row.confidence)


def _stored(row: TranscriptRow, turns: tuple[Turn, ...]) -> StoredTranscript:
    transcript = Transcript(turns, row.duration_ms, row.language)
    return StoredTranscript(row.id, row.call_id, row.fingerprint, transcript)
