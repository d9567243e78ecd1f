"""The queue between real connections: nobody waits for a claim, nobody gets a job twice, nothing stale is written."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from threading import Thread
from uuid import uuid4

import pytest
from sqlalchemy import delete, text

from db import queue
from db.errors import LeaseLostError
from db.models import Call, Job
from db.queue import QueuePolicy
from db.session import Database
from tests.integration.db.samples import make_call

POLICY = QueuePolicy(max_attempts=3)


@pytest.fixture
def call_ids(database: Database) -> Iterator[list[int]]:
    """Calls with an analyze job each, committed."""
    source = f"test-{uuid4()}"
    with database.unit_of_work() as session:
        made = [make_call(session, source=source) for _ in range(40)]
        queue.enqueue(session, made, "analyze")
    yield made
    with database.unit_of_work() as session:
        session.execute(delete(Call).where(Call.source == source))


def claim(database: Database, limit: int) -> queue.Lease | None:
    with database.unit_of_work() as session:
        return queue.claim(session, "analyze", worker="w", limit=limit, policy=POLICY)


def expire_all(database: Database) -> None:
    with database.unit_of_work() as session:
        session.execute(
            text("UPDATE jobs SET lease_until = now() - interval '1 s' WHERE state = 'leased'")
        )


def wait_for_a_lock(database: Database) -> None:
    """Until somebody waits for another's lock."""
    deadline = time.monotonic() + 30
    waiting = text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
    while time.monotonic() < deadline:
        with database.unit_of_work() as session:
            if session.scalar(waiting):
                return
        time.sleep(0.01)
    raise AssertionError("nobody waits")


@pytest.mark.usefixtures("call_ids")
def test_an_uncommitted_claim_is_stepped_over_not_waited_for(database: Database) -> None:
    with database.unit_of_work() as slow, database.unit_of_work() as quick:
        quick.execute(text("SET LOCAL statement_timeout = '2s'"))
        first = queue.claim(slow, "analyze", worker="slow", limit=10)
        second = queue.claim(quick, "analyze", worker="quick", limit=40)
    assert first is not None
    assert second is not None
    assert len(first.jobs) == 10
    assert len(second.jobs) == 30
    assert not set(first.ids) & set(second.ids)


def test_many_workers_finish_every_job_once(database: Database, call_ids: list[int]) -> None:
    finished: list[int] = []

    def work() -> None:
        while lease := claim(database, 3):
            for job in lease.jobs:
                with database.unit_of_work() as session:
                    queue.hold(session, lease.token, job.id)
                    queue.finish(session, lease.token, job.id)
                finished.append(job.call_id)

    workers = [Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    while claim_left := claim(
        database, 40
    ):  # a worker may leave early, thinking that all rows are taken
        finished.extend(job.call_id for job in claim_left.jobs)
    assert Counter(finished) == Counter(call_ids)


def test_two_who_ask_at_once_make_one_job(database: Database, call_ids: list[int]) -> None:
    made: list[bool] = []

    def ask() -> None:
        with database.unit_of_work() as session:
            made.extend(item.created for item in queue.enqueue(session, call_ids, "transcribe"))

    threads = [Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(made) == {True: 40, False: 120}


@pytest.mark.parametrize("ends", ["finish", "fail"])
def test_what_is_asked_for_while_the_lease_ends_is_not_lost(
    database: Database, call_ids: list[int], ends: str
) -> None:
    lease = claim(database, 1)
    assert lease is not None
    (one,) = lease.jobs
    last_chance = QueuePolicy(max_attempts=1)

    def end() -> None:
        with database.unit_of_work() as session:
            if ends == "finish":
                queue.finish(session, lease.token, one.id)
            else:
                queue.fail(session, lease.token, one.id, error=OSError(), policy=last_chance)

    with database.unit_of_work() as asking:
        queue.enqueue(asking, [one.call_id], "analyze")
        thread = Thread(target=end)
        thread.start()
        wait_for_a_lock(database)
    thread.join()
    with database.unit_of_work() as session:
        jobs = text("SELECT state FROM jobs WHERE call_id = :call_id ORDER BY id")
        states = session.scalars(jobs, {"call_id": one.call_id}).all()
    assert states == (["done", "ready"] if ends == "finish" else ["ready"])


@pytest.mark.usefixtures("call_ids")
def test_two_sweepers_move_each_job_once(database: Database) -> None:
    lease = claim(database, 40)
    assert lease is not None
    expire_all(database)
    with database.unit_of_work() as one, database.unit_of_work() as other:
        other.execute(text("SET LOCAL statement_timeout = '2s'"))
        moved = len(queue.sweep(one, policy=POLICY)), len(queue.sweep(other, policy=POLICY))
    assert moved == (40, 0)


@pytest.mark.usefixtures("call_ids")
def test_a_sweep_passes_by_a_write_back_that_is_under_way(database: Database) -> None:
    lease = claim(database, 1)
    assert lease is not None
    expire_all(database)
    with database.unit_of_work() as writer:
        queue.hold(writer, lease.token, lease.ids[0])
        with database.unit_of_work() as sweeper:
            assert queue.sweep(sweeper, policy=POLICY) == ()
        assert queue.finish(writer, lease.token, lease.ids[0]) == "done"


@pytest.mark.usefixtures("call_ids")
def test_a_lost_lease_takes_the_whole_write_back_with_it(database: Database) -> None:
    lease = claim(database, 2)
    assert lease is not None
    expire_all(database)
    with database.unit_of_work() as session:
        queue.sweep(session, policy=POLICY)

    def write_back() -> None:
        with database.unit_of_work() as session:
            session.execute(text("UPDATE calls SET campaign = 'stale'"))
            queue.finish(session, lease.token, lease.ids[0])

    with pytest.raises(LeaseLostError):
        write_back()
    with database.unit_of_work() as session:
        assert session.scalar(text("SELECT count(*) FROM calls WHERE campaign = 'stale'")) == 0


def test_deleting_a_call_takes_its_jobs(database: Database, call_ids: list[int]) -> None:
    with database.unit_of_work() as session:
        session.execute(delete(Call).where(Call.id == call_ids[0]))
        assert session.query(Job).filter_by(call_id=call_ids[0]).count() == 0
