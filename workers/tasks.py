"""The Celery tasks. Each is a wake-up: it opens what the process keeps, drains its stage and ends."""

from __future__ import annotations

import os
from functools import cache

import structlog
from billiard.pool import EX_RECYCLE
from celery import Task
from celery.signals import worker_process_shutdown, worker_ready

from db import queue
from db.enums import Stage
from db.errors import DatabaseAheadError, DatabaseBehindError, DatabaseUnavailableError
from db.queue import QueuePolicy
from db.session import Database
from workers.celery_app import DRAIN_SECONDS, TIME_LIMIT_S, app
from workers.drain import Claim, Drained, drain
from workers.errors import ModelUnavailableError
from workers.faults import ProcessBrokenError, WorkBlockedError
from workers.settings import settings
from workers.wake import wake

log = structlog.get_logger(__name__)
EXPIRES_AT_START_S = 30
# A job that failed waits 15 s at the default lease of 120 s, and twice as long after every further failure.
BACKOFFS_PER_LEASE = 8
# The engine lets a call in as soon as another one leaves; it can do so while more are claimed than its cache holds.
CACHES_PER_CLAIM = 4


@cache
def database() -> Database:
    """This process's connections, opened on first use: after the pool has spawned it, never before."""
    url = settings().database_url
    assert url is not None, "the supervisor gives every worker its AFTERCALL_DATABASE_URL"
    opened = Database(url, application="aftercall-worker")
    opened.check_schema_current()
    return opened


def policy() -> QueuePolicy:
    """How patient the queue is, from the settings. A lease ends for good once Celery has killed its task."""
    return QueuePolicy(
        lease_s=settings().lease_seconds,
        max_attempts=settings().max_attempts,
        hard_cap_s=TIME_LIMIT_S,
        backoff_s=settings().lease_seconds / BACKOFFS_PER_LEASE,
    )


class StageTask(Task):
    """Base of the tasks: what keeps the whole worker from working ends the wake-up with one line in the log.

    The work waits in its rows, and the sweeper sends the next wake-up.
    """

    abstract = True

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Run the task with its name bound to every log line."""
        with structlog.contextvars.bound_contextvars(task=self.name):
            try:
                return super().__call__(*args, **kwargs)
            except DatabaseUnavailableError as error:
                log.warning("database does not answer; the work waits", error=str(error))
            except (DatabaseBehindError, DatabaseAheadError, ModelUnavailableError) as error:
                log.error("this worker cannot work; the work waits", error=str(error))  # noqa: TRY400 - no traceback needed
            except WorkBlockedError as error:
                log.error("no call can be worked on; the work waits", error=str(error))  # noqa: TRY400 - no traceback needed
            except ProcessBrokenError as error:
                log.error("this process is broken; another takes over", error=str(error))  # noqa: TRY400 - the drain told all
                _leave_the_pool()
            return None


def _leave_the_pool() -> None:
    """End this pool process, for the pool to start a fresh one.

    SystemExit would be handed to the worker's main process, and end that (celery.worker.request.Request.on_success).
    """
    os._exit(EX_RECYCLE)


@app.task(base=StageTask, name="workers.tasks.transcribe")
def transcribe() -> None:
    """Judge and transcribe recordings, one call at a time, until none is due."""
    from workers.transcribe import transcriber

    drained = drain(
        database(),
        "transcribe",
        transcriber(database(), settings()).work,
        claim=Claim(limit=1),
        policy=policy(),
        seconds=DRAIN_SECONDS,
    )
    if drained.num_jobs:
        wake(app, "analyze")
    _go_on(drained, "transcribe")


@app.task(base=StageTask, name="workers.tasks.analyze")
def analyze() -> None:
    """Fill in the records of transcribed calls, a batch at a time, until none is due."""
    from workers.analyze import analyzer

    drained = drain(
        database(),
        "analyze",
        analyzer(database(), settings()).work,
        claim=Claim(
            limit=settings().max_batch_calls,
            token_budget=CACHES_PER_CLAIM * settings().max_batch_tokens,
        ),
        policy=policy(),
        seconds=DRAIN_SECONDS,
    )
    _go_on(drained, "analyze")


def _go_on(drained: Drained, stage: Stage) -> None:
    """A drain ends well before its time limit, so that its last job has time enough; the next one takes over."""
    if not drained.is_empty:
        wake(app, stage)


@app.task(base=StageTask, name="workers.tasks.sweep")
def sweep() -> None:
    """Collect expired leases and wake a worker for every stage that has work due."""
    with database().unit_of_work() as session:
        for moved in queue.sweep(session, policy=policy()):
            log.warning(
                "lease expired", call_id=moved.call_id, stage=moved.stage, state=moved.state
            )
        waiting: list[Stage] = [due.stage for due in queue.due(session) if due.jobs]
    for stage in waiting:
        wake(app, stage)


@worker_ready.connect
def _look_for_work(**_: object) -> None:
    """A worker that starts does not wait for the next sweep."""
    app.send_task("workers.tasks.sweep", queue="sweep", expires=EXPIRES_AT_START_S)


@worker_process_shutdown.connect
def _close_connections(**_: object) -> None:
    if database.cache_info().currsize:
        database().dispose()
