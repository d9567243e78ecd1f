"""Draining a stage: claim what is due, work, write back, until nothing is due. The same loop serves both stages."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from celery.exceptions import SoftTimeLimitExceeded

from db import queue
from db.enums import Stage
from db.errors import DatabaseUnavailableError, LeaseLostError
from db.queue import Lease, QueuePolicy
from db.session import Database
from workers.celery_app import SOFT_TIME_LIMIT_S
from workers.errors import TookTooLongError
from workers.faults import ProcessBrokenError, WorkBlockedError, whose_fault
from workers.leases import kept_alive
from workers.stopping import WorkerStopping, interruptible, stop_requested

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Claim:
    """How much one claim may take: jobs, and the prompt tokens they bring (None: any)."""

    limit: int
    token_budget: int | None = None


@dataclass(frozen=True, slots=True)
class Drained:
    """What a drain did. `is_empty`: nothing was due any more when it ended."""

    num_jobs: int
    is_empty: bool


def worker_name() -> str:
    """Who holds a lease, for people reading the jobs table: host and process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def drain(
    database: Database,
    stage: Stage,
    work: Callable[[Lease], None],
    *,
    claim: Claim,
    policy: QueuePolicy,
    seconds: float,
) -> Drained:
    """Claim and work until nothing is due, `seconds` have passed, or the worker is told to end.

    `work` finishes or fails each job of its lease itself. What it raises fails the batch as a whole: its members run
    alone from then on, so that only the call that is at fault counts a failure. Three errors end the drain:

    - DatabaseUnavailableError: the leases expire and the jobs run when it is back.
    - WorkBlockedError, for what would fail every call: the jobs are given back without blame.
    - ProcessBrokenError, after the failure is counted as any other: it may be the call that broke the process.
    """
    deadline = time.monotonic() + seconds
    num_jobs = 0
    while time.monotonic() < deadline and not stop_requested():
        with database.unit_of_work() as session:
            lease = queue.claim(
                session,
                stage,
                worker=worker_name(),
                limit=claim.limit,
                token_budget=claim.token_budget,
                policy=policy,
            )
        if lease is None:
            return Drained(num_jobs, is_empty=True)
        num_jobs += len(lease.jobs)
        if not _work_on(database, lease, work, policy):
            break
    return Drained(num_jobs, is_empty=False)


def _work_on(
    database: Database, lease: Lease, work: Callable[[Lease], None], policy: QueuePolicy
) -> bool:
    """Work on one lease; False when the time of the whole drain is used up with it."""
    try:
        with kept_alive(database, lease, policy), interruptible():
            work(lease)
    except WorkerStopping:
        with database.unit_of_work() as session:
            given_back = queue.release(session, lease.token, lease.ids)
        log.info("stopping, gave work back", jobs=sorted(given_back))
    except LeaseLostError as error:
        log.warning("lease lost, result discarded", error=str(error))
    except DatabaseUnavailableError:
        raise
    except SoftTimeLimitExceeded:
        log.warning("batch took too long", calls=[job.call_id for job in lease.jobs])
        limit = TookTooLongError(
            f"not finished after {SOFT_TIME_LIMIT_S // 60} minutes: a GPU or a smaller model is faster"
        )
        _fail(database, lease, limit, policy)
        return False
    except Exception as error:
        fault = whose_fault(error)
        if fault == "surroundings":
            with database.unit_of_work() as session:
                queue.postpone(session, lease, error=error, delay_s=policy.lease_s)
            raise WorkBlockedError(str(error)) from error
        # whatever else a model or a decoder raises is the job's failure, written on its row, not the worker's
        log.exception("batch failed", calls=[job.call_id for job in lease.jobs])
        _fail(database, lease, error, policy)
        if fault == "process":
            raise ProcessBrokenError(str(error)) from error
    return True


def _fail(database: Database, lease: Lease, error: Exception, policy: QueuePolicy) -> None:
    with database.unit_of_work() as session:
        queue.fail_batch(session, lease, error=error, policy=policy)
