"""Calls that wait for a stage, on a database with the built-in scorecards."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from analytics.talk_metrics import measure
from analytics.transcript import Transcript, Turn
from db import queue
from db.queue import QueuePolicy
from db.repository import calls, transcripts
from db.repository.calls import NewCall, NewRecording
from db.session import Database
from inference.diffusion import DiffusionEngine
from tests.models import save_tiny_dllm
from workers.settings import Settings
from workers.upgrade import register_built_in

# Patient enough never to lose a lease by accident, and a failed job need not wait.
POLICY = QueuePolicy(lease_s=60, max_attempts=3, backoff_s=0)
TURNS = (
    Turn(1, "agent", 0, 2_000, "Thanks for calling, how can I help?", 0.9),
    Turn(2, "caller", 2_500, 6_000, "I would like to book a cleaning for Tuesday.", 0.8),
    Turn(3, "agent", 6_400, 9_000, "You are booked for Tuesday at nine.", 0.95),
)

AddCall = Callable[..., int]
AddTranscribed = Callable[..., int]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
def empty_database(database: Database) -> Database:
    """This module's database without calls, with the built-in scorecards promoted."""
    with database.unit_of_work() as session:
        session.connection().exec_driver_sql("TRUNCATE calls RESTART IDENTITY CASCADE")
        register_built_in(session)
    return database


@pytest.fixture
def add_call(empty_database: Database) -> AddCall:
    """Record a call with a recording at a path, waiting to be transcribed, and return its id."""

    def add(
        path: Path | str, *, sha256: str | None = None, agent_channel: int | None = None
    ) -> int:
        digest = sha256 or hashlib.sha256(Path(path).read_bytes()).hexdigest()
        with empty_database.unit_of_work() as session:
            call_id = calls.ingest(
                session,
                NewCall("tests", Path(path).stem),
                NewRecording(str(path), digest, agent_channel=agent_channel),
            ).call_id
            queue.enqueue(session, [call_id], "transcribe")
        return call_id

    return add


@pytest.fixture
def add_transcribed(empty_database: Database) -> AddTranscribed:
    """Record a call with a transcript, waiting to be analyzed, and return its id."""

    def add(
        name: str,
        turns: tuple[Turn, ...] = TURNS,
        *,
        scorecards: tuple[str, ...] | None = None,
        tokens: int = 60,
    ) -> int:
        transcript = Transcript(turns, duration_ms=10_000, language="en")
        with empty_database.unit_of_work() as session:
            digest = hashlib.sha256(name.encode()).hexdigest()
            recording = NewRecording(f"/{name}.wav", digest)
            call_id = calls.ingest(session, NewCall("tests", name), recording).call_id
            transcripts.store_transcript(
                session,
                call_id=call_id,
                recording_id=calls.recordings_of(session, [call_id])[call_id].id,
                transcript=transcript,
                metrics=measure(transcript),
                fingerprint=f"of {name}",
                provenance={},
                prompt_tokens=tokens,
            )
            queue.enqueue(session, [call_id], "analyze", scorecards=scorecards)
        return call_id

    return add


@pytest.fixture(scope="session")
def tiny_dllm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint directory that the real engine loads."""
    directory = tmp_path_factory.mktemp("tiny-dllm")
    save_tiny_dllm(directory)
    return directory


@pytest.fixture(scope="session")
def engine(tiny_dllm: Path) -> DiffusionEngine:
    """The real engine on the tiny checkpoint; every test leaves it without work.

    A random model is sure of nothing: a low threshold lets it commit many tokens in a step.
    """
    torch.set_num_threads(1)
    return DiffusionEngine.load(tiny_dllm, device="cpu", threshold=0.001, max_batch_tokens=4_096)
