"""Draining a stage: claim what is due, work, write back, until nothing is due. The same loop serves both stages."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from db import queue
from db.enums import Stage
from db.errors import DatabaseUnavailableError, LeaseLostError
from db.queue import Lease, QueuePolicy
from db.session import Database
from workers.leases import kept_alive

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Claim:
    """How much one claim may take: jobs, and the prompt tokens they bring (None: any)."""

    limit: int
    token_budget: int | None = None


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
) -> int:
    """Claim and work until nothing is due or `seconds` have passed. Returns the number of jobs claimed.

    `work` finishes or fails each job of its lease itself. What it raises fails the batch as a whole: its members run
    alone from then on, so that only the call that is at fault counts a failure. A database that is down ends the drain:
    the leases expire and the jobs run when it is back.
    """
    deadline = time.monotonic() + seconds
    num_claimed = 0
    while time.monotonic() < deadline:
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
            break
        num_claimed += len(lease.jobs)
        _work_on(database, lease, work, policy)
    return num_claimed


def _work_on(
    database: Database, lease: Lease, work: Callable[[Lease], None], policy: QueuePolicy
) -> None:
    try:
        with kept_alive(database, lease, policy):
            work(lease)
    except LeaseLostError as error:
        log.warning("lease lost, result discarded", error=str(error))
    except DatabaseUnavailableError:
        raise
    except Exception as error:
        # whatever a model or a decoder raises is the job's failure, written on its row, not the worker's
        log.exception("batch failed", calls=[job.call_id for job in lease.jobs])
        with database.unit_of_work() as session:
            queue.fail_batch(session, lease, error=error, policy=policy)
