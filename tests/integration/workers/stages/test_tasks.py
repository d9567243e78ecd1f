"""The tasks as a worker runs them: what they wake, and what becomes of a wake-up that finds nothing to work with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from billiard.pool import EX_RECYCLE
from sqlalchemy import text

from db.session import Database
from tests.integration.workers.stages.conftest import AddTranscribed
from workers import analyze, tasks, transcribe
from workers.faults import ProcessBrokenError, WorkBlockedError
from workers.settings import Settings

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


class Process:
    """One worker process: its settings, and the stages that it has woken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
        self._monkeypatch = monkeypatch
        self._data_dir = data_dir
        self.woken: list[str] = []
        monkeypatch.setattr(tasks, "wake", lambda _, stage: self.woken.append(stage))

    def configure(self, **values: object) -> None:
        chosen = Settings.model_validate({"data_dir": self._data_dir, **values})
        self._monkeypatch.setattr(tasks, "settings", lambda: chosen)


@pytest.fixture
def process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str
) -> Iterator[Process]:
    caches = (tasks.database, analyze.analyzer, transcribe.transcriber)
    for cache in caches:
        cache.cache_clear()
    made = Process(monkeypatch, tmp_path)
    made.configure(database_url=database_url)
    yield made
    if tasks.database.cache_info().currsize:
        tasks.database().dispose()
    for cache in caches:
        cache.cache_clear()


class Stage:
    """Work that raises an error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def work(self, *_: object) -> None:
        raise self._error


def work_once(_: object, __: str, work: Callable[[object], None], **___: object) -> None:
    """A drain of a single lease."""
    work(None)


def test_a_sweep_wakes_every_stage_that_has_work_due(
    process: Process, add_transcribed: AddTranscribed
) -> None:
    tasks.sweep()
    assert process.woken == []
    add_transcribed("one")
    tasks.sweep()
    assert process.woken == ["analyze"]


def test_a_sweep_collects_a_lease_whose_worker_is_gone(
    process: Process, empty_database: Database, add_transcribed: AddTranscribed
) -> None:
    add_transcribed("one")
    with empty_database.unit_of_work() as session:
        session.execute(
            text(
                "UPDATE jobs SET state = 'leased', lease_token = gen_random_uuid(), batch_size = 2,"
                " leased_at = now(), lease_until = now() - interval '1 s', attempts = 1"
            )
        )
    tasks.sweep()
    assert process.woken == ["analyze"]
    with empty_database.unit_of_work() as session:
        rows = session.execute(text("SELECT state, attempts, isolate FROM jobs")).all()
    assert [tuple(row) for row in rows] == [("ready", 0, True)]


def test_the_analysis_drains_its_stage(
    process: Process,
    empty_database: Database,
    add_transcribed: AddTranscribed,
    database_url: str,
    tiny_dllm: Path,
) -> None:
    process.configure(
        database_url=database_url,
        dllm_model=str(tiny_dllm),
        dllm_device="cpu",
        commit_threshold=0.001,
        max_batch_tokens=2_048,
    )
    add_transcribed("one")
    tasks.analyze()
    assert process.woken == []
    with empty_database.unit_of_work() as session:
        assert session.scalars(text("SELECT status FROM call_status")).all() == ["scored"]


@pytest.mark.parametrize("stage", ["transcribe", "analyze"])
def test_work_waits_for_a_model_that_cannot_be_loaded(
    process: Process,
    empty_database: Database,
    add_transcribed: AddTranscribed,
    database_url: str,
    tmp_path: Path,
    stage: str,
) -> None:
    missing = str(tmp_path / "no" / "such" / "model")
    process.configure(database_url=database_url, asr_model=missing, dllm_model=missing)
    add_transcribed("one")
    with structlog.testing.capture_logs() as logs:
        {"transcribe": tasks.transcribe, "analyze": tasks.analyze}[stage]()
    [entry] = logs
    assert entry["log_level"] == "error"
    assert missing in entry["error"]
    assert "AFTERCALL_" in entry["error"]
    with empty_database.unit_of_work() as session:
        rows = session.execute(text("SELECT state, attempts FROM jobs")).all()
    assert [tuple(row) for row in rows] == [("ready", 0)]


def test_work_that_is_blocked_is_one_line_in_the_log(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcribe, "transcriber", lambda *_: Stage(WorkBlockedError("disk full")))
    monkeypatch.setattr(tasks, "drain", work_once)
    with structlog.testing.capture_logs() as logs:
        tasks.transcribe()
    [entry] = logs
    assert (entry["log_level"], entry["error"]) == ("error", "disk full")
    assert process.woken == []


def test_a_broken_process_leaves_the_pool(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analyze, "analyzer", lambda *_: Stage(ProcessBrokenError("CUDA error")))
    monkeypatch.setattr(tasks, "drain", work_once)
    codes: list[int] = []
    monkeypatch.setattr(tasks.os, "_exit", codes.append)
    with structlog.testing.capture_logs() as logs:
        tasks.analyze()
    assert codes == [EX_RECYCLE]
    assert [entry["error"] for entry in logs] == ["CUDA error"]


def test_a_database_that_is_down_is_one_line_in_the_log(process: Process) -> None:
    process.configure(database_url=NOWHERE)
    with structlog.testing.capture_logs() as logs:
        tasks.sweep()
    [entry] = logs
    assert entry["log_level"] == "warning"
    assert "does not answer" in entry["error"]


def test_a_worker_newer_than_the_schema_says_what_to_run(
    process: Process, make_empty_database: object
) -> None:
    with make_empty_database() as url:  # type: ignore[operator]
        process.configure(database_url=url)
        with structlog.testing.capture_logs() as logs:
            tasks.sweep()
    [entry] = logs
    assert "aftercall db upgrade" in entry["error"]


def test_a_failed_job_waits_an_eighth_of_a_lease(process: Process) -> None:
    process.configure(lease_seconds=120, max_attempts=5)
    policy = tasks.policy()
    assert (policy.lease_s, policy.max_attempts, policy.backoff_s) == (120, 5, 15)
    assert policy.hard_cap_s == tasks.TIME_LIMIT_S
