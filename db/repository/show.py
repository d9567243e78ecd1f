"""Everything that is known of one call."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import column, select, table
from sqlalchemy.orm import Session

from analytics.talk_metrics import TalkMetrics
from db.enums import CallStatus, JobState, RunStatus, Stage, Verdict
from db.errors import CallNotFoundError
from db.models import AnalysisRun, Call, CallMetrics, Job, Recording, Scorecard
from db.repository.records import Result, StoredEvidence, evidence_of, records_of
from db.repository.transcripts import StoredTranscript, current_transcripts

_CALL_STATUS = table("call_status", column("call_id"), column("status"), column("reason"))
_CURRENT_RUNS = table("current_runs", column("call_id"), column("run_id"))


@dataclass(frozen=True, slots=True)
class RecordingShown:
    """The call's recording and what the media guard said of it."""

    uri: str
    sha256: str | None
    size_bytes: int | None
    container: str | None
    codec: str | None
    sample_rate: int | None
    channels: int | None
    duration_ms: int | None
    agent_channel: int | None
    verdict: Verdict | None
    verdict_detail: str | None


@dataclass(frozen=True, slots=True)
class RunShown:
    """One analysis run. `is_current`: it is the one that `call_scores` shows for its scorecard."""

    run_id: int
    scorecard: str
    scorecard_version: int
    status: RunStatus
    is_current: bool
    result: Result | None
    evidence: tuple[StoredEvidence, ...]
    error: str | None
    fingerprint: str
    provenance: dict[str, Any]
    transcript_id: int
    num_steps: int | None
    num_tokens: int | None
    engine_ms: float | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class JobShown:
    """One job of the call's history."""

    job_id: int
    stage: Stage
    state: JobState
    attempts: int
    scorecards: tuple[str, ...] | None
    last_error: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class CallShown:
    """A call with its recording, current transcript, metrics, every run (newest first) and every job (newest first)."""

    call_id: int
    source: str
    external_id: str
    agent_id: str | None
    agent_version: str | None
    direction: str
    campaign: str | None
    end_reason: str | None
    started_at: datetime | None
    created_at: datetime
    metadata: dict[str, Any]
    status: CallStatus
    reason: str | None
    recording: RecordingShown | None
    transcript: StoredTranscript | None
    metrics: TalkMetrics | None
    runs: tuple[RunShown, ...]
    jobs: tuple[JobShown, ...]

    def current(self, scorecard: str) -> RunShown | None:
        """The run that speaks for this scorecard, if one does."""
        return next(
            (run for run in self.runs if run.is_current and run.scorecard == scorecard), None
        )


def show_call(session: Session, call_id: int) -> CallShown:
    """Read everything of one call. Raises CallNotFoundError."""
    call = session.get(Call, call_id)
    if call is None:
        raise CallNotFoundError(call_id)
    status = session.execute(select(_CALL_STATUS).where(_CALL_STATUS.c.call_id == call_id)).one()
    transcript = current_transcripts(session, [call_id]).get(call_id)
    return CallShown(
        call_id=call_id,
        source=call.source,
        external_id=call.external_id,
        agent_id=call.agent_id,
        agent_version=call.agent_version,
        direction=call.direction,
        campaign=call.campaign,
        end_reason=call.end_reason,
        started_at=call.started_at,
        created_at=call.created_at,
        metadata=call.details,
        status=status.status,
        reason=status.reason,
        recording=_recording(session, call_id),
        transcript=transcript,
        metrics=_metrics(session, transcript),
        runs=_runs(session, call_id),
        jobs=_jobs(session, call_id),
    )


def _recording(session: Session, call_id: int) -> RecordingShown | None:
    row = session.scalar(select(Recording).where(Recording.call_id == call_id))
    if row is None:
        return None
    return RecordingShown(
        **{name: getattr(row, name) for name in RecordingShown.__dataclass_fields__}
    )


def _metrics(session: Session, transcript: StoredTranscript | None) -> TalkMetrics | None:
    row = transcript and session.get(CallMetrics, transcript.id)
    if not row:
        return None
    return TalkMetrics(**{name: getattr(row, name) for name in TalkMetrics.__dataclass_fields__})


def _runs(session: Session, call_id: int) -> tuple[RunShown, ...]:
    rows = session.execute(
        select(AnalysisRun, Scorecard)
        .join(Scorecard, Scorecard.id == AnalysisRun.scorecard_id)
        .where(AnalysisRun.call_id == call_id)
        .order_by(AnalysisRun.id.desc())
    ).all()
    run_ids = [run.id for run, _ in rows]
    current = set(
        session.scalars(select(_CURRENT_RUNS.c.run_id).where(_CURRENT_RUNS.c.call_id == call_id))
    )
    records, evidence = records_of(session, run_ids), evidence_of(session, run_ids)
    return tuple(
        RunShown(
            run_id=run.id,
            scorecard=scorecard.name,
            scorecard_version=scorecard.version,
            status=run.status,
            is_current=run.id in current,
            result=records.get(run.id),
            evidence=evidence.get(run.id, ()),
            error=run.error,
            fingerprint=run.fingerprint,
            provenance=run.provenance,
            transcript_id=run.transcript_id,
            num_steps=run.num_steps,
            num_tokens=run.num_tokens,
            engine_ms=run.engine_ms,
            created_at=run.created_at,
        )
        for run, scorecard in rows
    )


def _jobs(session: Session, call_id: int) -> tuple[JobShown, ...]:
    rows = session.scalars(select(Job).where(Job.call_id == call_id).order_by(Job.id.desc()))
    return tuple(
        JobShown(
            job_id=job.id,
            stage=job.stage,
            state=job.state,
            attempts=job.attempts,
            scorecards=None if job.scorecards is None else tuple(job.scorecards),
            last_error=job.last_error,
            created_at=job.created_at,
            finished_at=job.finished_at,
        )
        for job in rows
    )
