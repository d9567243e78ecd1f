"""The job queue, one rule at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from uuid import UUID

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from db import queue
from db.enums import Stage
from db.errors import LeaseLostError, LiveJobExistsError, MissingReferenceError
from db.models import Job
from db.queue import Lease, QueuePolicy
from tests.integration.db.samples import make_call, make_transcript

POLICY = QueuePolicy(lease_s=120, hard_cap_s=600, max_attempts=3, backoff_s=10, backoff_cap_s=15)


def claim(session: Session, limit: int = 10, **options: object) -> Lease:
    lease = queue.claim(session, "analyze", worker="w", limit=limit, policy=POLICY, **options)
    assert lease is not None
    return lease


def enqueue(session: Session, count: int = 1, **options: object) -> list[int]:
    """Jobs of as many new calls, in order."""
    call_ids = [make_call(session) for _ in range(count)]
    done = queue.enqueue(session, call_ids, "analyze", **options)
    return sorted(item.job_id for item in done)


def job(session: Session, job_id: int) -> Job:
    return session.get_one(Job, job_id, populate_existing=True)


def make_due(session: Session) -> None:
    session.execute(update(Job).values(run_after=text("now()")))


def expire(session: Session, lease: Lease) -> None:
    session.execute(
        update(Job)
        .where(Job.lease_token == lease.token)
        .values(lease_until=text("now() - interval '1 second'"))
    )


def test_a_claimed_job_is_nobody_elses(session: Session) -> None:
    job_ids = enqueue(session, 3)
    lease = claim(session, limit=2)
    assert list(lease.ids) == job_ids[:2]
    assert [one.attempts for one in lease.jobs] == [1, 1]
    assert claim(session).ids == (job_ids[2],)
    assert queue.claim(session, "analyze", worker="w", limit=9) is None


def test_stages_are_claimed_apart(session: Session) -> None:
    call_id = make_call(session)
    queue.enqueue(session, [call_id], "transcribe")
    assert queue.claim(session, "analyze", worker="w", limit=9) is None
    lease = queue.claim(session, "transcribe", worker="w", limit=9)
    assert lease is not None
    assert [one.call_id for one in lease.jobs] == [call_id]


def test_asking_twice_makes_one_job_that_does_both(session: Session) -> None:
    call_id = make_call(session)
    (first,) = queue.enqueue(session, [call_id], "analyze", scorecards=["summary"])
    (second,) = queue.enqueue(
        session, [call_id, call_id], "analyze", scorecards=["sentiment", "summary"]
    )
    assert (first.created, second.created, second.job_id) == (True, False, first.job_id)
    assert job(session, first.job_id).scorecards == ["sentiment", "summary"]
    queue.enqueue(session, [call_id], "analyze")
    assert job(session, first.job_id).scorecards is None
    queue.enqueue(session, [call_id], "analyze", scorecards=["summary"])
    assert job(session, first.job_id).scorecards is None


def test_asking_while_leased_makes_a_job_that_follows(session: Session) -> None:
    call_id = make_call(session)
    make_transcript(session, call_id)
    (first,) = queue.enqueue(session, [call_id], "analyze", scorecards=["summary"], priority=-1)
    lease = claim(session)
    (second,) = queue.enqueue(session, [call_id], "analyze", scorecards=["custom"], priority=-1)
    assert (second.created, second.again, second.job_id) == (False, True, first.job_id)
    assert queue.finish(session, lease.token, first.job_id) == "ready"
    finished = job(session, first.job_id)
    assert (finished.state, finished.again, finished.attempts) == ("done", False, 1)
    (follower,) = claim(session).jobs
    assert follower.id != first.job_id
    assert follower.scorecards == ("custom", "summary")
    assert (follower.attempts, follower.tokens) == (1, 100)
    assert job(session, follower.id).priority == -1


def fails(session: Session, lease: Lease) -> None:
    queue.fail(session, lease.token, lease.ids[0], error=RuntimeError("late"), policy=POLICY)


def fails_for_ever(session: Session, lease: Lease) -> None:
    queue.fail(session, lease.token, lease.ids[0], error=RuntimeError("late"), permanent=True)


def expires(session: Session, lease: Lease) -> None:
    expire(session, lease)
    queue.sweep(session, policy=POLICY)


def is_released(session: Session, lease: Lease) -> None:
    queue.release(session, lease.token, lease.ids)


def is_postponed(session: Session, lease: Lease) -> None:
    queue.postpone(session, lease, error=OSError("disk full"), delay_s=0)


@pytest.mark.parametrize("ends", [fails, fails_for_ever, expires, is_released, is_postponed])
def test_what_is_asked_for_while_leased_outlives_the_last_attempt(
    session: Session, ends: Callable[[Session, Lease], None]
) -> None:
    (job_id,) = enqueue(session)
    session.execute(update(Job).values(attempts=POLICY.max_attempts - 1))
    lease = claim(session)
    queue.enqueue(session, [lease.jobs[0].call_id], "analyze")
    ends(session, lease)
    after = job(session, job_id)
    assert (after.state, after.again, after.attempts) == ("ready", False, 0)
    assert claim(session).ids == (job_id,), "it is due at once"


def test_a_failed_batch_begins_anew_where_it_was_asked_for_again(session: Session) -> None:
    asked, other = enqueue(session, 2)
    session.execute(update(Job).values(attempts=2))
    lease = claim(session)
    queue.enqueue(session, [lease.jobs[0].call_id], "analyze")
    queue.fail_batch(session, lease, error=MemoryError(), policy=POLICY)
    assert [job(session, one).attempts for one in (asked, other)] == [0, 2]


def test_after_it_is_done_the_same_work_is_a_new_job(session: Session) -> None:
    call_id = make_call(session)
    (first,) = queue.enqueue(session, [call_id], "analyze")
    queue.finish(session, claim(session).token, first.job_id)
    (second,) = queue.enqueue(session, [call_id], "analyze")
    assert second.created
    assert second.job_id != first.job_id


def test_the_schema_forbids_two_live_jobs(session: Session) -> None:
    (job_id,) = enqueue(session)
    session.add(Job(call_id=job(session, job_id).call_id, stage="analyze"))
    with pytest.raises(LiveJobExistsError):
        session.flush()


def test_a_job_needs_a_call(session: Session) -> None:
    with pytest.raises(MissingReferenceError):
        queue.enqueue(session, [-1], "analyze")
    assert queue.enqueue(session, [], "analyze") == ()


def test_tokens_come_from_the_transcript_and_bound_the_batch(session: Session) -> None:
    call_ids = [make_call(session) for _ in range(4)]
    for call_id in call_ids:
        make_transcript(session, call_id)  # 100 tokens each
    queue.enqueue(session, call_ids, "analyze")
    assert len(claim(session, token_budget=250).jobs) == 2
    assert len(claim(session, token_budget=10).jobs) == 1, (
        "a job beyond the budget still runs, alone"
    )
    assert [one.tokens for one in claim(session).jobs] == [100]


def test_higher_priority_goes_first(session: Session) -> None:
    (later,) = enqueue(session, priority=-1)
    (normal,) = enqueue(session)
    (urgent,) = enqueue(session, priority=5)
    assert claim(session).ids == (urgent, normal, later)


def test_a_delayed_job_waits(session: Session) -> None:
    (job_id,) = enqueue(session, delay_s=60)
    assert queue.claim(session, "analyze", worker="w", limit=1) is None
    (waiting,) = queue.due(session)
    assert (waiting.jobs, waiting.next_due_in_s) == (0, 60)
    queue.enqueue(session, [job(session, job_id).call_id], "analyze")
    assert claim(session).ids == (job_id,), "asking for it now ends the wait"


def test_a_heartbeat_extends_but_never_past_the_cap(session: Session) -> None:
    enqueue(session, 2)
    lease = claim(session)
    age = "UPDATE jobs SET leased_at = now() - make_interval(secs => :s), lease_until = now()"
    session.execute(text(age), {"s": 300})
    assert queue.heartbeat(session, lease, policy=POLICY) == set(lease.ids)
    left = text("SELECT DISTINCT extract(epoch FROM lease_until - now())::int FROM jobs")
    assert session.scalars(left).all() == [120]
    session.execute(text(age), {"s": 550})
    queue.heartbeat(session, lease, policy=POLICY)
    assert session.scalars(left).all() == [50]
    session.execute(text(age), {"s": 700})
    queue.heartbeat(session, lease, policy=POLICY)
    assert session.scalars(left).all() == [-100], "a hung worker may beat, and still expires"


def test_a_heartbeat_tells_which_jobs_were_taken_away(session: Session) -> None:
    first, second = enqueue(session, 2)
    lease = claim(session)
    queue.finish(session, lease.token, first)
    assert queue.heartbeat(session, lease, policy=POLICY) == {second}


@pytest.mark.parametrize(
    "write_back",
    [queue.hold, queue.finish, partial(queue.fail, error=RuntimeError("late"))],
    ids=["hold", "finish", "fail"],
)
def test_a_zombie_cannot_write_back(
    session: Session, write_back: Callable[[Session, UUID, int], object]
) -> None:
    (job_id,) = enqueue(session)
    zombie = claim(session)
    expire(session, zombie)
    queue.sweep(session, policy=POLICY)
    make_due(session)
    successor = claim(session)
    with pytest.raises(LeaseLostError, match=str(job_id)):
        write_back(session, zombie.token, job_id)
    assert queue.release(session, zombie.token, [job_id]) == frozenset()
    assert queue.heartbeat(session, zombie) == frozenset()
    queue.hold(session, successor.token, job_id)
    assert queue.finish(session, successor.token, job_id) == "done"


def test_failures_back_off_and_end_in_dead(session: Session) -> None:
    (job_id,) = enqueue(session)
    pauses, states = [], []
    for _ in range(POLICY.max_attempts):
        lease = claim(session)
        states.append(
            queue.fail(session, lease.token, job_id, error=ValueError("bad audio"), policy=POLICY)
        )
        pauses.append(
            session.scalar(text("SELECT extract(epoch FROM run_after - now())::int FROM jobs"))
        )
        make_due(session)
    assert states == ["ready", "ready", "dead"]
    assert pauses == [10, 15, 15]
    dead = job(session, job_id)
    assert (dead.error_class, dead.last_error, dead.attempts) == ("ValueError", "bad audio", 3)
    assert dead.finished_at is not None


def test_a_permanent_failure_is_dead_at_once(session: Session) -> None:
    (job_id,) = enqueue(session)
    lease = claim(session)
    state = queue.fail(
        session, lease.token, job_id, error=ValueError("nul \x00"), permanent=True, policy=POLICY
    )
    assert state == "dead"
    assert job(session, job_id).last_error == "nul �"


def test_a_failed_batch_blames_nobody_and_its_members_run_alone(session: Session) -> None:
    job_ids = enqueue(session, 3)
    lease = claim(session)
    assert queue.fail_batch(session, lease, error=MemoryError()) == set(job_ids)
    for job_id in job_ids:
        alone = claim(session)
        assert alone.ids == (job_id,)
        assert (alone.jobs[0].attempts, alone.jobs[0].isolate) == (1, True)


def test_a_failed_batch_of_one_is_its_members_own_failure(session: Session) -> None:
    (job_id,) = enqueue(session)
    for state in ("ready", "ready", "dead"):
        queue.fail_batch(session, claim(session), error=RuntimeError("poison"), policy=POLICY)
        assert job(session, job_id).state == state
        make_due(session)


def test_an_isolated_job_ends_the_batch_before_it(session: Session) -> None:
    first, second, third, fourth = enqueue(session, 4)
    session.execute(update(Job).where(Job.id == third).values(isolate=True))
    assert [claim(session).ids for _ in range(3)] == [(first, second), (third,), (fourth,)]


def test_a_job_that_ran_well_alone_is_no_longer_suspected(session: Session) -> None:
    (job_id,) = enqueue(session)
    session.execute(update(Job).values(isolate=True))
    lease = claim(session)
    queue.enqueue(session, [lease.jobs[0].call_id], "analyze")
    queue.finish(session, lease.token, job_id)
    (follower,) = claim(session).jobs
    assert (follower.id != job_id, follower.isolate) == (True, False)


def test_released_work_does_not_count_as_tried(session: Session) -> None:
    first, second = enqueue(session, 2)
    lease = claim(session)
    assert queue.release(session, lease.token, [second]) == {second}
    assert job(session, second).attempts == 0
    assert claim(session).ids == (second,)
    queue.hold(session, lease.token, first)


def test_postponed_work_waits_and_does_not_count_as_tried(session: Session) -> None:
    first, second = enqueue(session, 2)
    lease = claim(session)
    queue.finish(session, lease.token, first)
    full = OSError("disk full")
    assert queue.postpone(session, lease, error=full, delay_s=60) == {second}
    waiting = job(session, second)
    assert (waiting.state, waiting.attempts, waiting.isolate) == ("ready", 0, False)
    assert (waiting.error_class, waiting.last_error) == ("OSError", "disk full")
    assert queue.claim(session, "analyze", worker="w", limit=1) is None
    (due,) = queue.due(session)
    assert due.next_due_in_s == 60


def test_who_knows_that_no_worker_is_left_may_end_every_lease(session: Session) -> None:
    job_ids = enqueue(session, 3)
    lease = claim(session, limit=2)
    assert queue.expire_all(session) == set(job_ids[:2])
    assert {moved.job_id for moved in queue.sweep(session, policy=POLICY)} == set(job_ids[:2])
    with pytest.raises(LeaseLostError):
        queue.finish(session, lease.token, job_ids[0])


def test_a_sweep_leaves_living_leases_alone(session: Session) -> None:
    enqueue(session, 2)
    claim(session)
    assert queue.sweep(session, policy=POLICY) == ()


def test_a_sweep_isolates_the_members_of_a_lost_batch(session: Session) -> None:
    job_ids = enqueue(session, 2)
    lease = claim(session)
    queue.finish(session, lease.token, job_ids[0])
    expire(session, lease)
    (moved,) = queue.sweep(session, policy=POLICY)
    assert (moved.job_id, moved.state) == (job_ids[1], "ready")
    swept = job(session, job_ids[1])
    assert (swept.attempts, swept.isolate, swept.error_class) == (0, True, "LeaseExpired")


def test_a_job_that_kills_its_worker_alone_ends_in_dead(session: Session) -> None:
    enqueue(session, 2)
    claims, deaths = 0, 0
    while lease := queue.claim(session, "analyze", worker="w", limit=9, policy=POLICY):
        claims += 1
        expire(session, lease)
        deaths += sum(moved.state == "dead" for moved in queue.sweep(session, policy=POLICY))
        make_due(session)
    assert deaths == 2
    assert claims == 1 + 2 * POLICY.max_attempts, "one as a batch, then each alone"


def test_due_counts_what_could_run_now(session: Session) -> None:
    call_ids = [make_call(session) for _ in range(3)]
    for call_id in call_ids:
        make_transcript(session, call_id)
    queue.enqueue(session, call_ids[:2], "analyze")
    queue.enqueue(session, call_ids, "transcribe")
    session.execute(
        text("UPDATE jobs SET run_after = now() - interval '7 seconds' WHERE stage = 'analyze'")
    )
    transcribe, analyze = queue.due(session)
    assert (transcribe.stage, transcribe.jobs, transcribe.oldest_due_s) == ("transcribe", 3, 0)
    assert (analyze.stage, analyze.jobs, analyze.tokens, analyze.oldest_due_s) == (
        "analyze",
        2,
        200,
        7,
    )


def test_a_failed_call_is_taken_up_where_it_failed(session: Session) -> None:
    heard, unheard, scored = (make_call(session) for _ in range(3))

    def fail(call_id: int, stage: Stage) -> None:
        queue.enqueue(session, [call_id], stage)
        lease = queue.claim(session, stage, worker="w", limit=1)
        assert lease is not None
        queue.fail(session, lease.token, lease.ids[0], error=RuntimeError("x"), permanent=True)

    fail(heard, "analyze")
    fail(unheard, "analyze")
    fail(unheard, "transcribe")
    fail(scored, "analyze")
    queue.enqueue(session, [scored], "analyze")
    assert queue.failed_at(session, [heard, unheard, scored]) == {
        heard: "analyze",
        unheard: "transcribe",
    }
    assert queue.failed_at(session, [heard]) == {heard: "analyze"}
    assert queue.failed_at(session, []) == {}


def test_every_policy_number_reaches_the_database(session: Session) -> None:
    (job_id,) = enqueue(session)
    lease = queue.claim(session, "analyze", worker="me", limit=1, policy=replace(POLICY, lease_s=7))
    assert lease is not None
    row = session.execute(
        select(Job.worker, text("extract(epoch FROM lease_until - leased_at)::int")).where(
            Job.id == job_id
        )
    ).one()
    assert tuple(row) == ("me", 7)
