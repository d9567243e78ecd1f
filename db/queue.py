"""The job queue: who may work on what, and what happens when a worker disappears.

The statements are in `db/sql/queue.sql`. A worker's life is::

    with database.unit_of_work() as session:
        lease = queue.claim(session, "analyze", worker=name, limit=64, token_budget=16_384)
    ...                                                # work, while a thread calls heartbeat()
    with database.unit_of_work() as session:
        queue.hold(session, lease.token, [job.id])     # raises LeaseLostError when the job was taken away
        runs.store_run(session, ...)
        queue.finish(session, lease.token, job.id)
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from sqlalchemy import Row
from sqlalchemy.orm import Session

from db.enums import JobState, Stage
from db.errors import LeaseLostError
from db.sql import statements

_SQL = statements("queue")
_MAX_ERROR_CHARS = 4_000  # a CUDA traceback fits; a model's tensor dump does not belong in a row


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """How patient the queue is. All times in seconds."""

    lease_s: float = 120  # six heartbeats of 20 s may be missed
    hard_cap_s: float = 1_800  # above the workers' hard time limit, which must strike first
    max_attempts: int = 3
    backoff_s: float = 15  # doubles with every attempt
    backoff_cap_s: float = 900


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """One job as its worker sees it. `scorecards` None means all that are promoted."""

    id: int
    call_id: int
    stage: Stage
    scorecards: tuple[str, ...] | None
    tokens: int
    priority: int
    attempts: int
    isolate: bool


@dataclass(frozen=True, slots=True)
class Lease:
    """The time-limited right of one worker to work on these jobs; every write-back shows its token."""

    token: UUID
    until: datetime
    jobs: tuple[ClaimedJob, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids of the jobs."""
        return tuple(job.id for job in self.jobs)


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What asking for work did: a job was created, or the live one widened, or one will follow it (`again`)."""

    job_id: int
    call_id: int
    created: bool
    again: bool


@dataclass(frozen=True, slots=True)
class Moved:
    """A job that a sweep moved to another state."""

    job_id: int
    call_id: int
    stage: Stage
    state: JobState


@dataclass(frozen=True, slots=True)
class Due:
    """What waits at one stage. `oldest_due_s` is 0 and `next_due_in_s` None when nothing does."""

    stage: Stage
    jobs: int
    tokens: int
    oldest_due_s: float
    next_due_in_s: float | None


def enqueue(
    session: Session,
    call_ids: Collection[int],
    stage: Stage,
    *,
    scorecards: Collection[str] | None = None,
    priority: int = 0,
    delay_s: float = 0,
) -> tuple[Enqueued, ...]:
    """Ask for `stage` of these calls; a call that has the stage waiting gets no second job. Higher priority goes first.

    `scorecards` narrows an analysis to these names; None means all promoted ones. Raises MissingReferenceError.
    """
    if not call_ids:
        return ()
    rows = session.execute(
        _SQL["enqueue"],
        {
            "call_ids": list(call_ids),
            "stage": stage,
            "scorecards": sorted(set(scorecards)) if scorecards is not None else None,
            "priority": priority,
            "delay_s": delay_s,
        },
    )
    return tuple(
        Enqueued(row.id, row.call_id, created=row.created, again=row.state == "leased")
        for row in rows
    )


def claim(
    session: Session,
    stage: Stage,
    *,
    worker: str,
    limit: int,
    token_budget: int | None = None,
    policy: QueuePolicy = QueuePolicy(),
) -> Lease | None:
    """Lease up to `limit` due jobs whose tokens fit the budget, or None when none is due. Commit at once.

    An empty answer may also mean that another worker is claiming the same rows at this moment.
    """
    token = uuid4()
    rows = session.execute(
        _SQL["claim"],
        {
            "stage": stage,
            "limit": limit,
            "token_budget": token_budget,
            "lease_token": token,
            "lease_s": policy.lease_s,
            "worker": worker,
        },
    ).all()
    if not rows:
        return None
    in_order = sorted(rows, key=lambda row: (-row.priority, row.id))
    return Lease(token, in_order[0].lease_until, tuple(_claimed(row) for row in in_order))


def heartbeat(
    session: Session, lease: Lease, *, policy: QueuePolicy = QueuePolicy()
) -> frozenset[int]:
    """Extend the lease on the jobs that are still held, and return their ids. Past the hard cap nothing is extended."""
    parameters = {
        "ids": list(lease.ids),
        "lease_token": lease.token,
        "lease_s": policy.lease_s,
        "hard_cap_s": policy.hard_cap_s,
    }
    return frozenset(session.execute(_SQL["heartbeat"], parameters).scalars())


def held(session: Session, token: UUID, job_ids: Collection[int]) -> frozenset[int]:
    """Those of these jobs that the lease still holds, locked until the end of the transaction."""
    rows = session.execute(_SQL["hold"], {"ids": list(job_ids), "lease_token": token})
    return frozenset(rows.scalars())


def hold(session: Session, token: UUID, job_id: int) -> None:
    """Lock one job before writing its results in this transaction. Raises LeaseLostError when the lease is gone."""
    if not held(session, token, [job_id]):
        raise LeaseLostError(job_id)


def finish(session: Session, token: UUID, job_id: int) -> Literal["done", "ready"]:
    """The work is stored. `ready`: it was asked for again meanwhile, so another job waits. Raises LeaseLostError."""
    row = session.execute(_SQL["finish"], {"id": job_id, "lease_token": token}).one_or_none()
    if row is None:
        raise LeaseLostError(job_id)
    return "done" if row.state == "done" else "ready"


def fail(
    session: Session,
    token: UUID,
    job_id: int,
    *,
    error: BaseException,
    permanent: bool = False,
    policy: QueuePolicy = QueuePolicy(),
) -> Literal["ready", "dead"]:
    """This very job failed: it waits and is tried again, or is dead. Raises LeaseLostError.

    One that was asked for again meanwhile begins anew, whatever happened to it.
    """
    row = session.execute(
        _SQL["fail"],
        {
            "id": job_id,
            "lease_token": token,
            "permanent": permanent,
            "max_attempts": policy.max_attempts,
            "backoff_s": policy.backoff_s,
            "backoff_cap_s": policy.backoff_cap_s,
            **_described(error),
        },
    ).one_or_none()
    if row is None:
        raise LeaseLostError(job_id)
    return "dead" if row.state == "dead" else "ready"


def fail_batch(
    session: Session, lease: Lease, *, error: BaseException, policy: QueuePolicy = QueuePolicy()
) -> frozenset[int]:
    """The batch failed as a whole: each member will run alone, without blame. A batch of one fails as itself.

    Returns the ids that were still held.
    """
    if len(lease.jobs) == 1:
        still_held = held(session, lease.token, lease.ids)
        for job_id in still_held:
            fail(session, lease.token, job_id, error=error, policy=policy)
        return still_held
    return _given_back(session, "isolate", lease.token, lease.ids, **_described(error))


def release(session: Session, token: UUID, job_ids: Collection[int]) -> frozenset[int]:
    """Give back jobs that were not begun; their attempt does not count. Returns the ids that were still held."""
    return _given_back(session, "release", token, job_ids)


def postpone(
    session: Session, lease: Lease, *, error: BaseException, delay_s: float
) -> frozenset[int]:
    """Nothing is wrong with the jobs, but no job can be worked on: give them back without blame, due in `delay_s`.

    Returns the ids that were still held.
    """
    return _given_back(
        session, "postpone", lease.token, lease.ids, delay_s=delay_s, **_described(error)
    )


def sweep(session: Session, *, policy: QueuePolicy = QueuePolicy()) -> tuple[Moved, ...]:
    """Collect expired leases: batch members are isolated, jobs that were alone retried, or dead after too many."""
    rows = session.execute(
        _SQL["sweep"],
        {
            "max_attempts": policy.max_attempts,
            "backoff_s": policy.backoff_s,
            "backoff_cap_s": policy.backoff_cap_s,
        },
    )
    return tuple(Moved(row.id, row.call_id, row.stage, row.state) for row in rows)


def expire_all(session: Session) -> frozenset[int]:
    """End every lease, for the next sweep to collect, and return the ids of the jobs.

    Only for who knows that no worker is left: the owner of an embedded database.
    """
    return frozenset(session.execute(_SQL["expire_all"]).scalars())


def due(session: Session) -> tuple[Due, ...]:
    """What waits, by stage."""
    return tuple(
        Due(
            row.stage,
            row.due,
            int(row.due_tokens),
            float(row.oldest_due_s),
            None if row.next_due_in_s is None else float(row.next_due_in_s),
        )
        for row in session.execute(_SQL["due"])
    )


def failed_at(session: Session, call_ids: Collection[int]) -> dict[int, Stage]:
    """The stage at which each of these calls failed, by call id; calls that have not failed are left out."""
    rows = session.execute(_SQL["failed_at"], {"call_ids": list(call_ids)})
    return {row.call_id: row.stage for row in rows}


def _claimed(row: Row[Any]) -> ClaimedJob:
    scorecards = None if row.scorecards is None else tuple(row.scorecards)
    return ClaimedJob(
        row.id,
        row.call_id,
        row.stage,
        scorecards,
        row.tokens,
        row.priority,
        row.attempts,
        row.isolate,
    )


def _given_back(
    session: Session, statement: str, token: UUID, job_ids: Collection[int], **parameters: object
) -> frozenset[int]:
    parameters_all = {"ids": list(job_ids), "lease_token": token, **parameters}
    return frozenset(session.execute(_SQL[statement], parameters_all).scalars())


def _described(error: BaseException) -> dict[str, str]:
    message = (str(error) or type(error).__name__).replace("\x00", "�")
    return {"error_class": type(error).__name__, "error": message[:_MAX_ERROR_CHARS]}
