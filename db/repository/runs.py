"""Analysis runs: appending one with its record and evidence, resuming a job, re-scoring leads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import column, select, table
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.enums import RunStatus
from db.models import AnalysisRun, LeadRecord
from db.repository.records import (
    Result,
    ScoredLead,
    StoredEvidence,
    evidence_of,
    records_of,
    store_evidence,
    store_record,
)

_CURRENT_RUNS = table("current_runs", column("run_id"), column("scorecard"))


@dataclass(frozen=True, slots=True)
class NewRun:
    """One attempt to produce one record. `result` goes with status ok only, `error` with invalid and failed.

    `engine_ms` is this record's share of the engine's time.
    """

    call_id: int
    transcript_id: int
    scorecard_id: int
    status: RunStatus
    fingerprint: str
    provenance: Mapping[str, Any]
    job_id: int | None = None
    result: Result | None = None
    evidence: tuple[StoredEvidence, ...] = ()
    error: str | None = None
    num_steps: int | None = None
    num_tokens: int | None = None
    engine_ms: float | None = None


def store_run(session: Session, run: NewRun) -> int | None:
    """Append a run with its record and evidence, and return its id.

    None when this job has stored this very result before, as after a crash: nothing is written then.
    Hold the job's lease in the same transaction (`queue.hold`). Raises ValueError for an ok run without a result.
    """
    if (run.status == "ok") != (run.result is not None):
        raise ValueError(f"a run with status {run.status!r} and result {run.result!r}")
    run_id = session.scalar(
        insert(AnalysisRun)
        .values(
            call_id=run.call_id,
            transcript_id=run.transcript_id,
            scorecard_id=run.scorecard_id,
            job_id=run.job_id,
            status=run.status,
            error=run.error,
            fingerprint=run.fingerprint,
            provenance=dict(run.provenance),
            record=dict(run.result) if isinstance(run.result, Mapping) else None,
            num_steps=run.num_steps,
            num_tokens=run.num_tokens,
            engine_ms=run.engine_ms,
        )
        .on_conflict_do_nothing()
        .returning(AnalysisRun.id)
    )
    if run_id is None:
        return None
    if run.result is not None and not isinstance(run.result, Mapping):
        store_record(session, run_id, run.result)
    store_evidence(session, run_id, run.evidence)
    return run_id


@dataclass(frozen=True, slots=True)
class Concluded:
    """What a result that is stored came from: a version of a scorecard, and everything else in its provenance."""

    scorecard_id: int
    provenance: Mapping[str, Any]


def concluded_in_job(session: Session, job_id: int, transcript_id: int) -> tuple[Concluded, ...]:
    """The results that earlier attempts at this job have stored already for this transcript."""
    rows = session.execute(
        select(AnalysisRun.scorecard_id, AnalysisRun.provenance)
        .where(AnalysisRun.job_id == job_id, AnalysisRun.transcript_id == transcript_id)
        .where(AnalysisRun.status != "failed")
        .order_by(AnalysisRun.id)
    )
    return tuple(Concluded(row.scorecard_id, row.provenance) for row in rows)


@dataclass(frozen=True, slots=True)
class LeadToRescore:
    """A current lead record, to be scored by another version of the rule without a model."""

    run_id: int
    call_id: int
    transcript_id: int
    scorecard_id: int
    fingerprint: str
    lead: ScoredLead
    evidence: tuple[StoredEvidence, ...]


def leads_scored_otherwise(
    session: Session, rule_version: int, *, limit: int = 1_000, after_run: int = 0
) -> tuple[LeadToRescore, ...]:
    """Current lead records whose score comes from another rule version, in order of run id, beyond `after_run`.

    Store what the new rule says with `store_run` as a run of its own (`job_id` None): the earlier score stays.
    """
    rows = session.execute(
        select(AnalysisRun)
        .join(_CURRENT_RUNS, _CURRENT_RUNS.c.run_id == AnalysisRun.id)
        .join(LeadRecord, LeadRecord.run_id == AnalysisRun.id)
        .where(_CURRENT_RUNS.c.scorecard == "lead_score", LeadRecord.rule_version != rule_version)
        .where(AnalysisRun.id > after_run)
        .order_by(AnalysisRun.id)
        .limit(limit)
    )
    runs = rows.scalars().all()
    leads = records_of(session, [run.id for run in runs])
    evidence = evidence_of(session, [run.id for run in runs])
    return tuple(
        LeadToRescore(
            run.id,
            run.call_id,
            run.transcript_id,
            run.scorecard_id,
            run.fingerprint,
            lead,
            evidence.get(run.id, ()),
        )
        for run in runs
        if isinstance(lead := leads[run.id], ScoredLead)
    )
