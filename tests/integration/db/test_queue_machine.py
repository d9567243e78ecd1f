"""The queue against a model of itself: claims, heartbeats, crashes, expiries and late write-backs in any order."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

from db import queue
from db.errors import LeaseLostError
from db.models import Job
from db.queue import Lease, QueuePolicy
from db.session import Database
from tests.integration.db.samples import make_call

POLICY = QueuePolicy(max_attempts=2)
CALLS = 3


@dataclass
class ModelJob:
    """What the queue should know of a job."""

    id: int
    call_id: int
    priority: int = 0
    tokens: int = 0
    state: str = "ready"
    attempts: int = 0
    isolate: bool = False
    again: bool = False
    is_due: bool = True
    token: UUID | None = None
    batch_size: int = 0
    is_expired: bool = False

    def unlease(self, state: str, *, is_due: bool = True) -> None:
        self.state, self.is_due = state, is_due
        self.token, self.again, self.is_expired = None, False, False

    def give_back(self) -> None:
        self.attempts = 0 if self.again else self.attempts - 1
        self.unlease("ready")

    def fail_alone(self) -> None:
        if self.again:
            self.attempts = 0
            self.unlease("ready")
        else:
            is_dead = self.attempts >= POLICY.max_attempts
            self.unlease("dead" if is_dead else "ready", is_due=False)

    def fail_in_its_batch(self) -> None:
        if self.batch_size > 1:
            self.isolate = True
            self.give_back()
        else:
            self.fail_alone()


def choose(jobs: list[ModelJob], limit: int, token_budget: int | None) -> list[int]:
    """Naive twin of the claim: which jobs are taken, in order."""
    chosen: list[ModelJob] = []
    due = (job for job in jobs if job.state == "ready" and job.is_due)
    for job in sorted(due, key=lambda job: (-job.priority, job.id))[:limit]:
        tokens = sum(one.tokens for one in chosen) + job.tokens
        too_many = token_budget is not None and tokens > token_budget
        if chosen and (too_many or job.isolate or chosen[0].isolate):
            break
        chosen.append(job)
    return [job.id for job in chosen]


@dataclass
class HeldLease:
    """A lease as its worker remembers it, whether or not the queue still agrees."""

    lease: Lease
    open_jobs: list[int] = field(default_factory=list)


class QueueMachine(RuleBasedStateMachine):
    """All in one transaction, in which now() stands still: time passes only where a rule moves it."""

    leases = Bundle("leases")

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.savepoint = session.begin_nested()
        self.jobs: dict[int, ModelJob] = {}

    @initialize()
    def some_calls(self) -> None:
        self.call_ids = [make_call(self.session) for _ in range(CALLS)]

    def teardown(self) -> None:
        self.savepoint.rollback()

    def live(self, call_id: int) -> ModelJob | None:
        live = [
            job
            for job in self.jobs.values()
            if job.call_id == call_id and job.state in ("ready", "leased")
        ]
        return live[0] if live else None

    def of(self, held: HeldLease) -> list[ModelJob]:
        """Jobs that the queue should let this lease write to."""
        return [job for job in self.jobs.values() if job.token == held.lease.token]

    @rule()
    def enqueue_all(self) -> None:
        for place in range(CALLS):
            self.enqueue(place, 0)

    @rule(place=st.integers(0, CALLS - 1), priority=st.integers(0, 1))
    def enqueue(self, place: int, priority: int) -> None:
        call_id = self.call_ids[place]
        (done,) = queue.enqueue(self.session, [call_id], "analyze", priority=priority)
        job = self.live(call_id)
        assert done.created == (job is None)
        if job is None:
            self.jobs[done.job_id] = ModelJob(done.job_id, call_id, priority)
            return
        assert done.job_id == job.id
        assert done.again == (job.state == "leased")
        job.priority = max(job.priority, priority)
        job.again = job.state == "leased"
        job.is_due = job.is_due or job.state == "ready"

    @rule(target=leases, limit=st.integers(1, CALLS))
    def claim(self, limit: int) -> object:
        expected = choose(list(self.jobs.values()), limit, None)
        lease = queue.claim(self.session, "analyze", worker="w", limit=limit, policy=POLICY)
        assert (list(lease.ids) if lease else []) == expected
        if lease is None:
            return multiple()
        for job_id in expected:
            job = self.jobs[job_id]
            job.state, job.token, job.batch_size = "leased", lease.token, len(expected)
            job.attempts += 1
        return HeldLease(lease, expected)

    @rule(held=leases)
    def heartbeat(self, held: HeldLease) -> None:
        still = queue.heartbeat(self.session, held.lease, policy=POLICY)
        assert still == {job.id for job in self.of(held)}
        for job in self.of(held):
            job.is_expired = False

    @rule(held=leases, data=st.data())
    def finish(self, held: HeldLease, data: st.DataObject) -> None:
        job = self.jobs[data.draw(st.sampled_from(held.lease.ids))]
        if job.token != held.lease.token:
            with pytest.raises(LeaseLostError):
                queue.finish(self.session, held.lease.token, job.id)
            return
        state = queue.finish(self.session, held.lease.token, job.id)
        assert state == ("ready" if job.again else "done")
        asked_again = job.again
        job.unlease("done")
        if asked_again:
            new_id = max(self.session.scalars(select(Job.id)))
            assert new_id not in self.jobs
            self.jobs[new_id] = ModelJob(new_id, job.call_id, job.priority)

    @rule(held=leases, data=st.data())
    def fail(self, held: HeldLease, data: st.DataObject) -> None:
        job = self.jobs[data.draw(st.sampled_from(held.lease.ids))]
        if job.token != held.lease.token:
            with pytest.raises(LeaseLostError):
                queue.fail(self.session, held.lease.token, job.id, error=OSError())
            return
        state = queue.fail(self.session, held.lease.token, job.id, error=OSError(), policy=POLICY)
        job.fail_alone()
        assert state == job.state

    @rule(held=leases)
    def fail_batch(self, held: HeldLease) -> None:
        still = queue.fail_batch(self.session, held.lease, error=OSError(), policy=POLICY)
        assert still == {job.id for job in self.of(held)}
        for job in self.of(held):
            job.fail_in_its_batch()

    @rule(held=leases)
    def release(self, held: HeldLease) -> None:
        queue.release(self.session, held.lease.token, held.lease.ids)
        for job in self.of(held):
            job.give_back()

    @rule(held=leases)
    def expire(self, held: HeldLease) -> None:
        self.session.execute(
            update(Job)
            .where(Job.lease_token == held.lease.token)
            .values(lease_until=text("now() - interval '1 second'"))
        )
        for job in self.of(held):
            job.is_expired = True

    @rule(held=consumes(leases))
    def crash(self, held: HeldLease) -> None:
        """The worker is gone for good, its leases are collected, and the work is due again."""
        self.expire(held)
        self.sweep()
        self.time_passes()

    @rule()
    def sweep(self) -> None:
        expired = [job for job in self.jobs.values() if job.is_expired]
        moved = {one.job_id: one.state for one in queue.sweep(self.session, policy=POLICY)}
        assert set(moved) == {job.id for job in expired}
        for job in expired:
            job.fail_in_its_batch()
            assert moved[job.id] == job.state

    @rule()
    def time_passes(self) -> None:
        self.session.execute(
            update(Job).where(Job.state == "ready").values(run_after=text("now()"))
        )
        for job in self.jobs.values():
            job.is_due = job.is_due or job.state == "ready"

    @invariant()
    def rows_are_as_modelled(self) -> None:
        columns = "id, state, attempts, isolate, again, lease_token"
        rows = self.session.execute(
            text(f"SELECT {columns}, state = 'ready' AND run_after <= now() AS is_due FROM jobs")
        )
        assert {row.id: tuple(row)[1:] for row in rows} == {
            job.id: (
                *(job.state, job.attempts, job.isolate, job.again, job.token),
                job.state == "ready" and job.is_due,
            )
            for job in self.jobs.values()
        }

    @invariant()
    def attempts_are_bounded(self) -> None:
        assert all(0 <= job.attempts <= POLICY.max_attempts for job in self.jobs.values())


def test_the_queue_is_its_model(session: Session) -> None:
    run_state_machine_as_test(
        lambda: QueueMachine(session),
        settings=settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True),
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rows=st.lists(
        st.tuples(st.integers(-1, 1), st.integers(0, 50), st.booleans(), st.booleans()),
        min_size=1,
        max_size=9,
    ),
    limit=st.integers(1, 10),
    token_budget=st.none() | st.integers(1, 120),
)
def test_a_claim_takes_what_its_naive_twin_takes(
    database: Database,
    rows: list[tuple[int, int, bool, bool]],
    limit: int,
    token_budget: int | None,
) -> None:
    with database.engine.connect() as connection, Session(connection) as session:
        session.execute(delete(Job))
        jobs = []
        for priority, tokens, isolate, is_due in rows:
            (done,) = queue.enqueue(
                session,
                [make_call(session)],
                "analyze",
                priority=priority,
                delay_s=0 if is_due else 60,
            )
            session.execute(
                update(Job).where(Job.id == done.job_id).values(tokens=tokens, isolate=isolate)
            )
            jobs.append(
                ModelJob(
                    done.job_id, done.call_id, priority, tokens, isolate=isolate, is_due=is_due
                )
            )
        lease = queue.claim(
            session, "analyze", worker="w", limit=limit, token_budget=token_budget, policy=POLICY
        )
        assert (list(lease.ids) if lease else []) == choose(jobs, limit, token_budget)
        session.rollback()
