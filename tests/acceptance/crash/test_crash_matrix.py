"""Whatever dies, wherever a worker is: each call ends once, nothing is stored twice, and nobody tries for ever.

Ways to die × points of the work. By default every way and every point is taken at least once, in six cases of the
eighteen; AFTERCALL_TEST_CRASH_MATRIX=full takes all of them.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from db.enums import Stage
from tests.acceptance.crash.workers import Servers, Workers, add_calls
from tests.acceptance.service import kill, wait_until

NUM_CALLS = 3
STAGES: dict[str, Stage] = {
    "mid-transcribe": "transcribe",
    "mid-batch": "analyze",
    "after-write": "analyze",
}


@dataclass
class Case:
    """A worker that is held at a point, on calls of its own."""

    workers: Workers
    stage: Stage
    call_ids: list[int]
    worker: subprocess.Popen[bytes]
    release: Callable[[], None]

    def jobs(self, columns: str) -> list[tuple[Any, ...]]:
        """Columns of the jobs of this stage, call by call."""
        return self.workers.servers.rows(
            f"SELECT {columns} FROM jobs WHERE call_id = ANY(%s) AND stage = %s ORDER BY call_id",
            self.call_ids,
            self.stage,
        )

    def start_another(self) -> None:
        """A worker in the place of the one that is gone."""
        self.workers.start(self.stage)


def kill_the_child(case: Case) -> None:
    """The process that holds the lease; its worker puts another in its place."""
    [name] = {worker for (worker,) in case.jobs("worker") if worker is not None}
    kill(int(name.rpartition(":")[2]))


def kill_the_group(case: Case) -> None:
    os.killpg(case.worker.pid, signal.SIGKILL)
    case.start_another()


def terminate(case: Case) -> None:
    case.worker.send_signal(signal.SIGTERM)
    assert case.worker.wait(60) == 0
    assert {state for (state,) in case.jobs("state")} == {"ready"}  # given back, not left to expire
    case.start_another()


def quit_cold(case: Case) -> None:
    case.worker.send_signal(signal.SIGQUIT)
    case.worker.wait(60)
    case.start_another()


def kill_the_broker(case: Case) -> None:
    broker = case.workers.servers.local_broker
    assert broker is not None
    assert broker._process is not None
    kill(broker._process.pid)
    broker._process.wait()
    assert broker.start() == case.workers.servers.broker_url
    case.release()


def crash_postgres(case: Case) -> None:
    """A session that dies by SIGKILL makes Postgres end all of them and recover from its log."""
    [(session,)] = case.workers.servers.rows(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'aftercall-worker' LIMIT 1"
    )
    kill(session)
    case.release()


WAYS: dict[str, Callable[[Case], None]] = {
    "child killed": kill_the_child,
    "group killed": kill_the_group,
    "SIGTERM": terminate,
    "SIGQUIT": quit_cold,
    "broker killed": kill_the_broker,
    "Postgres crashed": crash_postgres,
}
SERVERS_DIE = {"broker killed", "Postgres crashed"}
COVERING = (
    ("child killed", "mid-batch"),
    ("group killed", "mid-transcribe"),
    ("SIGTERM", "after-write"),
    ("SIGQUIT", "mid-transcribe"),
    ("broker killed", "mid-batch"),
    ("Postgres crashed", "after-write"),
)
FULL = tuple((way, point) for way in WAYS for point in STAGES)
CASES = FULL if os.environ.get("AFTERCALL_TEST_CRASH_MATRIX") == "full" else COVERING


@pytest.mark.parametrize(("way", "point"), CASES)
def test_each_call_ends_once(
    request: pytest.FixtureRequest, models: dict[str, str], tmp_path: Path, way: str, point: str
) -> None:
    servers: Servers = request.getfixturevalue("own_servers" if way in SERVERS_DIE else "servers")
    stage, flag = STAGES[point], tmp_path / "held"
    workers = Workers(servers, models, tmp_path / "workers.log")
    call_ids = add_calls(servers, stage, tmp_path, count=NUM_CALLS)
    try:
        worker = workers.start(stage, hold=f"{point}:{flag}")
        case = Case(workers, stage, call_ids, worker, flag.with_suffix(".released").touch)
        wait_until(flag.exists, f"a worker held {point}", workers.newest_log)
        WAYS[way](case)
        wait_until(lambda: _all_done(case), "every job is done", workers.newest_log)
    finally:
        workers.kill()
    jobs = case.jobs("call_id, attempts")
    assert [call_id for call_id, _ in jobs] == call_ids
    assert all(1 <= attempts <= 2 for _, attempts in jobs)
    _assert_stored_once(case)


def _all_done(case: Case) -> bool:
    try:
        return {state for (state,) in case.jobs("state")} == {"done"}
    except psycopg.OperationalError:
        return False  # Postgres is recovering


def _assert_stored_once(case: Case) -> None:
    rows = case.workers.servers.rows
    transcribed = "SELECT call_id FROM transcripts WHERE call_id = ANY(%s) ORDER BY 1"
    assert [call_id for (call_id,) in rows(transcribed, case.call_ids)] == case.call_ids
    if case.stage == "analyze":
        run = "SELECT call_id, scorecard_id FROM analysis_runs WHERE call_id = ANY(%s)"
        stored = rows(run, case.call_ids)
        assert len(stored) == len(set(stored)) == 3 * NUM_CALLS
