"""Servers, worker processes and calls for the crash matrix."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from analytics.talk_metrics import measure
from analytics.transcript import Transcript, Turn
from db import queue
from db.enums import Stage
from db.repository import calls, transcripts
from db.repository.calls import NewCall, NewRecording
from db.session import Database
from inference.speech.media import SAMPLE_RATE
from tests.acceptance.recordings import spoken, write_wav
from tests.acceptance.service import IMPATIENT
from workers.local.broker import LocalBroker

ROOT = Path(__file__).parents[3]
TRANSCRIPT = Transcript(
    (
        Turn(1, "agent", 0, 2_000, "Thanks for calling, how can I help?", 0.9),
        Turn(2, "caller", 2_500, 6_000, "I would like to book a cleaning for Tuesday.", 0.8),
    ),
    duration_ms=6_000,
    language="en",
)
# A random model is sure of nothing: a low threshold lets it commit many tokens in a step.
ENGINE = {"AFTERCALL_COMMIT_THRESHOLD": "0.001", "AFTERCALL_MAX_BATCH_TOKENS": "4096"}


@dataclass
class Servers:
    """A migrated database and a broker; `local_broker` where it is ours to kill."""

    database: Database
    broker_url: str
    local_broker: LocalBroker | None = None

    @property
    def database_url(self) -> str:
        """As a setting takes it, and psycopg."""
        url = self.database.url.set(drivername="postgresql")
        return url.render_as_string(hide_password=False)

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """What a statement returns, over a connection of its own."""
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(statement, parameters).fetchall()  # type: ignore[call-overload]


@dataclass
class Workers:
    """Worker processes, each in a session of its own; `kill` ends those that are left."""

    servers: Servers
    models: dict[str, str]
    log: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(
        self, queue_name: str, *, hold: str | None = None, broken: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a worker, or its double: with `hold` see `held_worker`, with `broken` see `broken_worker`."""
        kept = {name: value for name, value in os.environ.items() if "AFTERCALL_" not in name}
        environment = {
            **kept,
            **IMPATIENT,
            **ENGINE,
            **self.models,
            "OMP_NUM_THREADS": "1",
            "AFTERCALL_DATABASE_URL": self.servers.database_url,
            "AFTERCALL_BROKER_URL": self.servers.broker_url,
        }
        module = "workers.process"
        if hold is not None:
            module = "tests.acceptance.crash.held_worker"
            environment["AFTERCALL_TEST_HOLD"] = hold
        if broken is not None:
            module = "tests.acceptance.crash.broken_worker"
            environment["AFTERCALL_TEST_BROKEN"] = str(broken)
        with self.log.open("ab") as log:
            worker = subprocess.Popen(
                [
                    *(sys.executable, "-m", module, queue_name),
                    *("--schedule", str(self.log.with_suffix(".schedule"))),
                ],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.running.append(worker)
        return worker

    def newest_log(self) -> str:
        """The end of the workers' log."""
        return self.log.read_text()[-3_000:]

    def kill(self) -> None:
        """SIGKILL to every session, whatever is left of it."""
        for worker in self.running:
            try:
                os.killpg(worker.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            finally:
                worker.wait()


def _crackle(path: Path) -> np.ndarray:
    """Eight samples that no other recording ends with."""
    return np.frombuffer(hashlib.sha256(bytes(path)).digest(), dtype="<i2").reshape(8, 2)


def add_calls(servers: Servers, stage: Stage, folder: Path, *, count: int) -> list[int]:
    """Calls that wait for `stage`, and nothing else that waits."""
    with servers.database.unit_of_work() as session:
        session.connection().exec_driver_sql("DELETE FROM jobs WHERE state <> 'done'")
        call_ids = []
        for number in range(count):
            path = folder / f"{number}.wav"
            if stage == "transcribe":
                write_wav(path, np.concatenate([spoken(0)[: 4 * SAMPLE_RATE], _crackle(path)]))
            else:
                path.write_text(str(path))
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            call_id = calls.ingest(
                session, NewCall(str(folder), str(number)), NewRecording(str(path), sha256)
            ).call_id
            call_ids.append(call_id)
            if stage == "analyze":
                transcripts.store_transcript(
                    session,
                    call_id=call_id,
                    recording_id=calls.recordings_of(session, [call_id])[call_id].id,
                    transcript=TRANSCRIPT,
                    metrics=measure(TRANSCRIPT),
                    fingerprint="by hand",
                    provenance={},
                    prompt_tokens=40,
                )
        queue.enqueue(session, call_ids, stage)
    return call_ids
