"""The loop of both stages, with work that fails in every way that work can fail."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from sqlalchemy import text

from db import queue
from db.errors import DatabaseUnavailableError
from db.queue import Lease, QueuePolicy
from db.session import Database
from tests.integration.workers.stages.conftest import POLICY, AddTranscribed
from workers import leases, stopping
from workers.drain import Claim, Drained, drain
from workers.faults import ProcessBrokenError, WorkBlockedError
from workers.leases import kept_alive
from workers.stopping import WorkerStopping, interruptible, listen, stop_requested


class Worker:
    """Work that finishes every job, and remembers which calls came together."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.batches: list[list[int]] = []

    def __call__(self, lease: Lease) -> None:
        self.batches.append(sorted(job.call_id for job in lease.jobs))
        for job in lease.jobs:
            self.work_on(lease, job.call_id)
            with self.database.unit_of_work() as session:
                queue.finish(session, lease.token, job.id)

    def work_on(self, lease: Lease, call_id: int) -> None:
        """Nothing to do."""


def drain_all(database: Database, work: Worker, *, limit: int = 4, seconds: float = 60) -> Drained:
    return drain(
        database, "analyze", work, claim=Claim(limit=limit), policy=POLICY, seconds=seconds
    )


def jobs(database: Database) -> dict[int, tuple[str, int, bool, str | None]]:
    """State, attempts, isolation and error of every job, by call."""
    with database.unit_of_work() as session:
        rows = session.execute(
            text("SELECT call_id, state, attempts, isolate, last_error FROM jobs ORDER BY call_id")
        )
        return {row.call_id: (row.state, row.attempts, row.isolate, row.last_error) for row in rows}


@pytest.fixture
def three_calls(add_transcribed: AddTranscribed) -> list[int]:
    return [add_transcribed(name) for name in ("one", "two", "three")]


@pytest.fixture
def pool_process() -> Iterator[None]:
    """This process as one of a worker's pool: it can be told to end."""
    before = {number: signal.getsignal(number) for number in (stopping.STOP_SIGNAL, signal.SIGALRM)}
    listen()
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    stopping._Stop.requested = False
    for number, handler in before.items():
        signal.signal(number, handler)


def test_everything_due_is_worked_on_in_batches(
    empty_database: Database, three_calls: list[int]
) -> None:
    work = Worker(empty_database)
    assert drain_all(empty_database, work, limit=2) == Drained(3, is_empty=True)
    assert work.batches == [three_calls[:2], three_calls[2:]]
    assert {state for state, *_ in jobs(empty_database).values()} == {"done"}


def test_a_drain_whose_time_is_up_says_that_there_may_be_more(
    empty_database: Database, three_calls: list[int]
) -> None:
    drained = drain_all(empty_database, Worker(empty_database), seconds=0)
    assert drained == Drained(0, is_empty=False)


def test_only_the_call_that_fails_alone_dies(
    empty_database: Database, three_calls: list[int]
) -> None:
    guilty = three_calls[1]

    class Failing(Worker):
        def work_on(self, lease: Lease, call_id: int) -> None:
            if guilty in self.batches[-1]:
                raise ArithmeticError(f"the kernel chokes on call {guilty}")

    work = Failing(empty_database)
    drain_all(empty_database, work)
    assert work.batches[0] == three_calls
    assert sorted(work.batches[1:]) == [[three_calls[0]], *[[guilty]] * 3, [three_calls[2]]]
    after = jobs(empty_database)
    assert after[guilty] == ("dead", 3, True, f"the kernel chokes on call {guilty}")
    for innocent in (three_calls[0], three_calls[2]):
        assert after[innocent] == ("done", 1, True, None)


def test_a_lost_lease_is_no_failure_of_the_job(
    empty_database: Database, three_calls: list[int]
) -> None:
    class TooLateAtFirst(Worker):
        def work_on(self, lease: Lease, call_id: int) -> None:
            if self.batches.count([call_id]) == 1:
                with self.database.unit_of_work() as session:
                    queue.release(session, lease.token, lease.ids)

    work = TooLateAtFirst(empty_database)
    assert drain_all(empty_database, work, limit=1) == Drained(6, is_empty=True)
    assert set(jobs(empty_database).values()) == {("done", 1, False, None)}


def test_a_database_that_is_down_ends_the_drain_and_blames_nobody(
    empty_database: Database, three_calls: list[int]
) -> None:
    class Disconnected(Worker):
        def work_on(self, lease: Lease, call_id: int) -> None:
            raise DatabaseUnavailableError

    with pytest.raises(DatabaseUnavailableError):
        drain_all(empty_database, Disconnected(empty_database))
    assert set(jobs(empty_database).values()) == {("leased", 1, False, None)}


def test_a_disk_that_is_full_ends_the_drain_and_blames_nobody(
    empty_database: Database, three_calls: list[int]
) -> None:
    class WithoutSpace(Worker):
        def work_on(self, lease: Lease, call_id: int) -> None:
            if call_id == three_calls[1]:
                raise OSError(errno.ENOSPC, "No space left on device")

    work = WithoutSpace(empty_database)
    with pytest.raises(WorkBlockedError, match="No space left"):
        drain_all(empty_database, work)
    assert work.batches == [three_calls]
    after = jobs(empty_database)
    assert after[three_calls[0]] == ("done", 1, False, None)
    for call_id in three_calls[1:]:
        state, attempts, isolate, error = after[call_id]
        assert (state, attempts, isolate) == ("ready", 0, False)
        assert error is not None
        assert "No space left" in error
    assert drain_all(empty_database, Worker(empty_database)) == Drained(0, is_empty=True), (
        "it is not due at once"
    )


def test_a_process_that_is_broken_works_on_nothing_more(
    empty_database: Database, three_calls: list[int]
) -> None:
    class BreaksTheProcess(Worker):
        def work_on(self, lease: Lease, call_id: int) -> None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    work = BreaksTheProcess(empty_database)
    for _ in range(3):  # as many processes
        with pytest.raises(ProcessBrokenError, match="illegal memory access"):
            drain_all(empty_database, work)
    assert work.batches == [three_calls, three_calls[:1], three_calls[1:2]]
    states = [(state, attempts) for state, attempts, *_ in jobs(empty_database).values()]
    assert states == [("ready", 1), ("ready", 1), ("ready", 0)]


def test_work_that_runs_into_its_time_limit_fails_and_ends_the_drain(
    empty_database: Database, three_calls: list[int]
) -> None:
    class Endless(Worker):
        def work_on(self, lease: Lease, call_id: int) -> None:
            raise SoftTimeLimitExceeded  # as Celery raises it

    assert drain_all(empty_database, Endless(empty_database), limit=1) == Drained(1, is_empty=False)
    assert jobs(empty_database)[three_calls[0]] == (
        "ready",
        1,
        False,
        "not finished after 20 minutes: a GPU or a smaller model is faster",
    )


def test_work_that_is_interrupted_is_given_back_without_blame(
    empty_database: Database, three_calls: list[int], pool_process: None
) -> None:
    class Interrupted(Worker):
        def work_on(self, lease: Lease, call_id: int) -> None:
            os.kill(os.getpid(), stopping.STOP_SIGNAL)
            os.kill(os.getpid(), signal.SIGALRM)  # as when the grace is over
            raise AssertionError("the work went on")

    work = Interrupted(empty_database)
    assert drain_all(empty_database, work, limit=2) == Drained(2, is_empty=False)
    assert len(work.batches) == 1
    assert set(jobs(empty_database).values()) == {("ready", 0, False, None)}


def test_a_worker_that_is_told_to_end_finishes_what_it_has_and_claims_no_more(
    empty_database: Database, three_calls: list[int], pool_process: None
) -> None:
    class Told(Worker):
        def work_on(self, lease: Lease, call_id: int) -> None:
            os.kill(os.getpid(), stopping.STOP_SIGNAL)

    assert drain_all(empty_database, Told(empty_database), limit=1) == Drained(1, is_empty=False)
    states = [state for state, *_ in jobs(empty_database).values()]
    assert states == ["done", "ready", "ready"]


def test_the_end_of_the_grace_interrupts_work_only(pool_process: None) -> None:
    os.kill(os.getpid(), stopping.STOP_SIGNAL)
    os.kill(os.getpid(), signal.SIGALRM)
    assert stop_requested()
    with pytest.raises(WorkerStopping), interruptible():
        os.kill(os.getpid(), signal.SIGALRM)


class Beats:
    """Counts the heartbeats that get through, and lets a number of them be waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, fail_first: int = 0) -> None:
        self._condition = threading.Condition()
        self._count = 0
        real = queue.heartbeat

        def heartbeat(*arguments: object, **named: object) -> object:
            with self._condition:
                self._count += 1
                self._condition.notify_all()
                if self._count <= fail_first:
                    raise DatabaseUnavailableError
            return real(*arguments, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(leases.queue, "heartbeat", heartbeat)

    def wait_for(self, count: int) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: self._count >= count, timeout=30)


def claim_one(database: Database, policy: QueuePolicy) -> Lease:
    with database.unit_of_work() as session:
        lease = queue.claim(session, "analyze", worker="test", limit=1, policy=policy)
    assert lease is not None
    return lease


def seconds_leased(database: Database) -> float:
    """From the claim to the end of the lease as it stands."""
    with database.unit_of_work() as session:
        statement = (
            "SELECT extract(epoch FROM lease_until - leased_at) FROM jobs WHERE state = 'leased'"
        )
        return float(session.scalars(text(statement)).one())


def test_a_heartbeat_extends_the_lease_and_outlives_a_database_that_is_away(
    empty_database: Database, three_calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    beats = Beats(monkeypatch, fail_first=2)
    policy = QueuePolicy(lease_s=0.12)
    lease = claim_one(empty_database, policy)
    assert seconds_leased(empty_database) == pytest.approx(0.12)
    with kept_alive(empty_database, lease, policy):
        beats.wait_for(5)
    assert seconds_leased(empty_database) > 0.12


def test_a_heartbeat_never_extends_a_lease_beyond_the_hard_cap(
    empty_database: Database, three_calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    beats = Beats(monkeypatch)
    policy = QueuePolicy(lease_s=0.12, hard_cap_s=0.2)
    lease = claim_one(empty_database, policy)
    with kept_alive(empty_database, lease, policy):
        beats.wait_for(12)
    assert seconds_leased(empty_database) == pytest.approx(0.2)
