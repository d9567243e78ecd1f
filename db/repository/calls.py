"""Calls and recordings: taking them in once, finding them, selecting them for another go."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import column, exists, func, select, table, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db import queue
from db.enums import REJECTING_VERDICTS, CallStatus, Direction, Stage, Verdict
from db.errors import CallNotFoundError
from db.models import Call, Recording, TranscriptRow
from db.repository.arrays import among

_UNREAD: frozenset[str | None] = frozenset({"missing", "unreadable"})
_CALL_STATUS = table("call_status", column("call_id"), column("status"))


@dataclass(frozen=True, slots=True)
class NewCall:
    """A call as ingest knows it. `caller_key` is a hash of the caller's number, never the number."""

    source: str
    external_id: str
    agent_id: str | None = None
    agent_version: str | None = None
    direction: Direction = "unknown"
    started_at: datetime | None = None
    campaign: str | None = None
    caller_key: str | None = None
    end_reason: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """What the media guard found. All None: not looked at yet."""

    verdict: Verdict | None = None
    verdict_detail: str | None = None
    container: str | None = None
    codec: str | None = None
    sample_rate: int | None = None
    channels: int | None = None
    duration_ms: int | None = None


@dataclass(frozen=True, slots=True)
class NewRecording:
    """A recording as ingest knows it. `sha256` is None where no byte was read: verdict missing, unreadable or empty."""

    uri: str
    sha256: str | None
    size_bytes: int | None = None
    agent_channel: int | None = None
    facts: MediaFacts = MediaFacts()


@dataclass(frozen=True, slots=True)
class StoredRecording:
    """A recording row. `agent_channel` None: the setting decides."""

    id: int
    call_id: int
    uri: str
    sha256: str | None
    agent_channel: int | None
    verdict: Verdict | None


Intake = Literal["created", "known", "same_bytes", "recovered", "conflict"]


@dataclass(frozen=True, slots=True)
class Ingested:
    """What taking in a recording did.

    created: a new call. known: this call with these bytes is there. same_bytes: the bytes are there, as another call.
    recovered: the call was there but its recording was rejected; this one takes its place. conflict: the call is there
    with another recording, which is kept; this one is not stored. `call_id` is the call that holds the bytes, or the
    conflict.
    """

    outcome: Intake
    call_id: int

    @property
    def wants_work(self) -> bool:
        """Whether the call should be enqueued for transcription now."""
        return self.outcome in ("created", "recovered")


def ingest(session: Session, call: NewCall, recording: NewRecording) -> Ingested:
    """Take in a call with its recording, once: see Ingested. Raises ValueNotAllowedError, ValueUnstorableError."""
    by_bytes = _recording_with(session, recording.sha256)
    if by_bytes is not None:
        return _already_there(session, call, recording, by_bytes)
    with session.begin_nested() as savepoint:
        call_id = session.scalar(
            insert(Call).values(**_call_values(call)).on_conflict_do_nothing().returning(Call.id)
        )
        if call_id is None:
            return _second_recording(session, call, recording)
        stored = session.scalar(
            insert(Recording)
            .values(call_id=call_id, **_recording_values(call, recording))
            .on_conflict_do_nothing()
            .returning(Recording.id)
        )
        if stored is not None:
            return Ingested("created", call_id)
        savepoint.rollback()  # another process stored the same bytes since we looked
    by_bytes = _recording_with(session, recording.sha256)
    assert by_bytes is not None
    return _already_there(session, call, recording, by_bytes)


def record_facts(session: Session, recording_id: int, facts: MediaFacts) -> None:
    """Store what the media guard found. Facts that are None keep what is stored."""
    known = {name: value for name, value in asdict(facts).items() if value is not None}
    session.execute(
        update(Recording)
        .where(Recording.id == recording_id)
        .values(**{"verdict_detail": None, **known}, checked_at=func.now())
    )


def recordings_of(session: Session, call_ids: Collection[int]) -> dict[int, StoredRecording]:
    """The recording of each of these calls, by call id."""
    rows = session.scalars(select(Recording).where(among(Recording.call_id, call_ids)))
    return {row.call_id: _stored(row) for row in rows}


def find_call(session: Session, reference: str | int) -> int:
    """The id of a call given by id, by external id, or by `source/external id`. Raises CallNotFoundError.

    A number is tried as an id first. An external id that several sources use means the newest of them.
    """
    text = str(reference)
    if text.isascii() and text.isdigit() and len(text) < 19:
        found = session.scalar(select(Call.id).where(Call.id == int(text)))
        if found is not None:
            return found
    source, _, rest = text.partition("/")
    matches = (Call.external_id == text) | ((Call.source == source) & (Call.external_id == rest))
    found = session.scalar(select(Call.id).where(matches).order_by(Call.id.desc()).limit(1))
    if found is None:
        raise CallNotFoundError(reference)
    return found


def statuses(session: Session, call_ids: Collection[int] | None = None) -> dict[int, CallStatus]:
    """The derived status of these calls, or of every call."""
    query = select(_CALL_STATUS.c.call_id, _CALL_STATUS.c.status)
    if call_ids is not None:
        query = query.where(among(_CALL_STATUS.c.call_id, call_ids))
    return {row.call_id: row.status for row in session.execute(query)}


@dataclass(frozen=True, slots=True)
class Selection:
    """Which calls: all conditions hold together, and None does not restrict. Times bound `started_at`, until excluded.

    A call without a `started_at` counts by when it was ingested.
    """

    call_ids: tuple[int, ...] | None = None
    since: datetime | None = None
    until: datetime | None = None
    agent_id: str | None = None
    statuses: tuple[CallStatus, ...] | None = None


def select_calls(session: Session, selection: Selection) -> tuple[int, ...]:
    """The ids of the calls in `selection`, oldest first. Raises CallNotFoundError for an id that does not exist."""
    started_at = func.coalesce(Call.started_at, Call.created_at)
    query = select(Call.id).order_by(Call.id)
    if selection.call_ids is not None:
        query = query.where(among(Call.id, selection.call_ids))
        known = set(session.scalars(select(Call.id).where(among(Call.id, selection.call_ids))))
        for call_id in selection.call_ids:
            if call_id not in known:
                raise CallNotFoundError(call_id)
    if selection.since is not None:
        query = query.where(started_at >= selection.since)
    if selection.until is not None:
        query = query.where(started_at < selection.until)
    if selection.agent_id is not None:
        query = query.where(Call.agent_id == selection.agent_id)
    if selection.statuses is not None:
        query = query.join(_CALL_STATUS, _CALL_STATUS.c.call_id == Call.id)
        query = query.where(_CALL_STATUS.c.status.in_(selection.statuses))
    return tuple(session.scalars(query))


@dataclass(frozen=True, slots=True)
class Reprocessed:
    """What reprocessing asked for. `skipped` calls have no transcript to analyze."""

    enqueued: tuple[queue.Enqueued, ...]
    skipped: tuple[int, ...]


def reprocess(
    session: Session,
    call_ids: Collection[int],
    stage: Stage,
    *,
    scorecards: Collection[str] | None = None,
    priority: int = -1,  # behind new calls, which somebody waits for
) -> Reprocessed:
    """Ask for `stage` again for these calls. Earlier transcripts and runs stay."""
    able = set(call_ids)
    if stage == "analyze":
        has_transcript = exists().where(TranscriptRow.call_id == Call.id)
        able = set(session.scalars(select(Call.id).where(among(Call.id, able), has_transcript)))
    enqueued = queue.enqueue(session, sorted(able), stage, scorecards=scorecards, priority=priority)
    return Reprocessed(enqueued, tuple(sorted(set(call_ids) - able)))


def _recording_with(session: Session, sha256: str | None) -> Recording | None:
    if sha256 is None:
        return None
    return session.scalar(select(Recording).where(Recording.sha256 == sha256))


def _already_there(
    session: Session, call: NewCall, recording: NewRecording, stored: Recording
) -> Ingested:
    """The bytes are stored. They may have gone missing since, and be back now."""
    if stored.verdict in _UNREAD and recording.facts.verdict not in _UNREAD:
        _replace(session, stored, call, recording)
        return Ingested("recovered", stored.call_id)
    owner = session.get_one(Call, stored.call_id)
    same_call = (owner.source, owner.external_id) == (call.source, call.external_id)
    return Ingested("known" if same_call else "same_bytes", stored.call_id)


def _second_recording(session: Session, call: NewCall, recording: NewRecording) -> Ingested:
    """The call is stored, with other bytes or with none. What was rejected gives way to what is there now."""
    stored = session.scalars(
        select(Recording)
        .join(Call)
        .where(Call.source == call.source, Call.external_id == call.external_id)
    ).one()
    verdict = recording.facts.verdict
    if verdict in _UNREAD or (verdict is not None and verdict == stored.verdict):
        return Ingested("known", stored.call_id)
    if stored.verdict in REJECTING_VERDICTS:
        _replace(session, stored, call, recording)
        return Ingested("recovered", stored.call_id)
    return Ingested("conflict", stored.call_id)


def _replace(session: Session, stored: Recording, call: NewCall, recording: NewRecording) -> None:
    for name, value in _recording_values(call, recording).items():
        setattr(stored, name, value)
    session.flush()


def _call_values(call: NewCall) -> dict[str, Any]:
    values = asdict(call)
    values["details"] = dict(values.pop("metadata"))
    return values


def _recording_values(call: NewCall, recording: NewRecording) -> dict[str, Any]:
    values = asdict(recording)
    if recording.sha256 is None and recording.facts.verdict == "empty":
        values["sha256"] = _stand_in(call)
    facts = values.pop("facts")
    checked_at = None if facts["verdict"] is None else datetime.now(UTC)
    return {**values, **facts, "checked_at": checked_at}


def _stand_in(call: NewCall) -> str:
    """A hash for a recording without bytes: the schema wants one, and that of no bytes is the same for every call."""
    return hashlib.sha256(f"no bytes\0{call.source}\0{call.external_id}".encode()).hexdigest()


def _stored(row: Recording) -> StoredRecording:
    return StoredRecording(
        row.id,
        row.call_id,
        row.uri,
        row.sha256,
        row.agent_channel,
        row.verdict,
    )
