"""A pool process that CUDA has broken: its worker puts a fresh one in its place, and no call dies of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.crash.workers import Servers, Workers, add_calls
from tests.acceptance.service import wait_until

NUM_CALLS = 3


@pytest.fixture
def workers(servers: Servers, models: dict[str, str], tmp_path: Path) -> Iterator[Workers]:
    started = Workers(servers, models, tmp_path / "workers.log")
    yield started
    started.kill()


def test_a_fresh_process_takes_over_from_a_broken_one(
    workers: Workers, servers: Servers, tmp_path: Path
) -> None:
    call_ids = add_calls(servers, "analyze", tmp_path, count=NUM_CALLS)
    worker = workers.start("analyze", broken=tmp_path / "broken")
    jobs = "SELECT state, attempts, isolate FROM jobs WHERE call_id = ANY(%s)"

    def are_done() -> bool:
        return {state for state, *_ in servers.rows(jobs, call_ids)} == {"done"}

    wait_until(are_done, "every call is analyzed", workers.newest_log)
    assert servers.rows(jobs, call_ids) == [("done", 1, True)] * NUM_CALLS
    assert worker.poll() is None
    assert "this process is broken" in workers.log.read_text()
