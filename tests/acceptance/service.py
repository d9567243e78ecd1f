"""The real command and the processes that it starts, as a person at a terminal has them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg

AFTERCALL = str(Path(sys.executable).with_name("aftercall"))
ENDED = {"scored", "rejected", "failed"}
# Two processors may be shared with much else; nothing here takes a tenth of it on an idle machine.
PATIENCE_S = 120.0
# Short, so that what is left behind by a kill is taken up within seconds.
IMPATIENT = {
    "AFTERCALL_LEASE_SECONDS": "2",
    "AFTERCALL_SWEEP_SECONDS": "0.5",
    "AFTERCALL_MAX_ATTEMPTS": "3",
}


class Service:
    """One installation: a data directory, its settings, and `aftercall up` when it runs."""

    def __init__(self, data_dir: Path, settings: Mapping[str, str]) -> None:
        self.data_dir = data_dir
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("AFTERCALL_") and name != "COLUMNS"
        }
        self.environment = {**kept, **settings, "AFTERCALL_DATA_DIR": str(data_dir)}
        self.supervisor: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """A command from beginning to end."""
        return subprocess.run(
            [AFTERCALL, *map(str, arguments)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    def ingest(self, *arguments: str | Path) -> dict[str, dict[str, Any]]:
        """`aftercall ingest --json`: what it told of each input by its place, and the counts as `summary`."""
        result = self.run("ingest", "--json", *arguments)
        told = [json.loads(line) for line in result.stdout.splitlines()]
        assert told, result.stderr
        assert told[-1]["event"] == "summary", result.stderr
        return {**{one["where"]: one for one in told[:-1]}, "summary": told[-1]}

    def up(self) -> None:
        """Start the service and wait until it says that it runs."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        log_path = self.data_dir / "up.log"
        with log_path.open("wb") as log:
            self.supervisor = subprocess.Popen(
                [AFTERCALL, "up"],
                env=self.environment,
                stdout=log,
                stderr=log,
                preexec_fn=_hear_interrupts,
            )

        def is_running() -> bool:
            assert self.supervisor is not None
            assert self.supervisor.poll() is None, log_path.read_text()
            return '"event": "running"' in log_path.read_text()

        wait_until(is_running, "the service runs")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the service by a signal to the supervisor, and return its exit code."""
        assert self.supervisor is not None
        self.supervisor.send_signal(how)
        code = self.supervisor.wait(PATIENCE_S)
        self.supervisor = None
        return code

    def kill_everything(self) -> None:
        """SIGKILL to the supervisor first and then to all that belongs to it, servers included."""
        assert self.supervisor is not None
        self.supervisor.kill()
        self.supervisor.wait()
        self.supervisor = None
        for pid in self.processes():
            kill(pid)
        wait_until(lambda: not self.processes(), "every process is gone")

    def processes(self) -> list[int]:
        """Ids of all processes of this installation: by their environment, or at work in its directory."""
        here = os.fsencode(f"AFTERCALL_DATA_DIR={self.data_dir}")
        return [
            int(process.name)
            for process in Path("/proc").glob("[0-9]*")
            if _belongs(process, here, self.data_dir)
        ]

    def worker(self, queue: str) -> int:
        """Id of the worker process of a queue; those of its pool are its children."""
        command = f"workers.process\0{queue}\0".encode()
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in self._children()}
        return next(pid for pid, found in commands.items() if command in found)

    def server(self, name: str) -> int:
        """Id of the process of an embedded server: the one that the supervisor started."""
        return next(pid for pid in self._children() if _name(pid) == name)

    def _children(self) -> list[int]:
        assert self.supervisor is not None
        children = Path(f"/proc/{self.supervisor.pid}").glob("task/*/children")
        return [int(pid) for child in children for pid in child.read_text().split()]

    @property
    def database_url(self) -> str:
        """Where Postgres answers; the embedded one only while somebody runs it."""
        configured = self.environment.get("AFTERCALL_DATABASE_URL")
        if configured is not None:
            return configured
        return str(json.loads((self.data_dir / "runtime.json").read_text())["database"])

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of the service's database, while it runs."""
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[call-overload]

    def statuses(self) -> dict[str, str]:
        """The status of every call, by external id."""
        rows = self.query(
            "SELECT external_id, status FROM call_status JOIN calls ON calls.id = call_id"
        )
        return dict(rows)

    def wait_until_ended(self, num_calls: int) -> dict[str, str]:
        """Until so many calls are there and each is scored, rejected or failed."""

        def all_ended() -> bool:
            statuses = self.statuses()
            return len(statuses) == num_calls and set(statuses.values()) <= ENDED

        wait_until(all_ended, "every call has ended", self.describe)
        return self.statuses()

    def describe(self) -> str:
        """What the logs and the job rows say, for a failure's message."""
        logs = [self.data_dir / "up.log", *sorted(self.data_dir.glob("logs/*.log"))]
        parts = [f"== {log.name}\n{log.read_text()[-3_000:]}" for log in logs if log.exists()]
        jobs = self.query("SELECT call_id, stage, state, attempts, worker, last_error FROM jobs")
        return "\n".join([*map(str, jobs), *parts])

    def clean_up(self) -> None:
        """Leave nothing running, whatever the test left."""
        if self.supervisor is not None:
            self.stop()
        for pid in self.processes():
            kill(pid)


def wait_until(
    condition: Callable[[], bool], what: str, describe: Callable[[], str] = lambda: ""
) -> None:
    """Look again and again. Fails after PATIENCE_S with what was waited for."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what}\n{describe()}"
        time.sleep(0.1)


def kill(pid: int, how: signal.Signals = signal.SIGKILL) -> None:
    """Signal a process that may be gone already."""
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        return


def _hear_interrupts() -> None:
    """As at a terminal: tests that run as a shell's background job inherit that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _belongs(process: Path, environment: bytes, data_dir: Path) -> bool:
    try:
        if environment in (process / "environ").read_bytes().split(b"\0"):
            return True
        return (process / "cwd").resolve().is_relative_to(data_dir)
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return False
