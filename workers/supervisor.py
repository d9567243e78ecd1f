"""One process that owns a running service: the embedded servers, if any, and one worker process per queue."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import structlog

from db import migrate
from db.session import Database
from workers.celery_app import QUEUES
from workers.local.servers import Urls, open_servers
from workers.settings import PREFIX, Settings

log = structlog.get_logger(__name__)
# A worker that dies at once, again and again, has a cause that a restart does not cure: wait longer each time.
RESTART_PAUSE_S = 1.0
RESTART_PAUSE_CAP_S = 60.0
STEADY_AFTER_S = 60.0
STOP_TIMEOUT_S = 20.0
POLL_S = 0.2


@dataclass(slots=True)
class WorkerProcess:
    """One Celery worker with its log file, restarted when it dies."""

    queue: str
    environment: dict[str, str]
    log_path: Path
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    pause_s: float = RESTART_PAUSE_S
    _log_file: IO[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start the worker; its log goes on where the last one ended."""
        self._close_log()
        self._log_file = self.log_path.open("ab")
        command = [sys.executable, "-m", "celery", "-A", "workers.celery_app", "worker"]
        command += ["-Q", self.queue, "-n", f"{self.queue}@%h", "-c", "1"]
        command += ["--without-gossip", "--without-mingle", "--loglevel", "INFO"]
        if self.queue == "sweep":
            command += ["-B", "-s", str(self.log_path.with_name("beat-schedule"))]
        # its own session: Ctrl-C reaches the supervisor alone, which stops the workers in order
        self.process = subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log_file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_stop_when_the_supervisor_dies,
        )
        self.started_at = time.monotonic()

    def keep_running(self) -> None:
        """Restart the worker if it has died, after a pause that grows while it dies young."""
        if self.process is None or self.process.poll() is None:
            return
        now = time.monotonic()
        if self.restart_at == 0.0:
            lived_s = now - self.started_at
            self.pause_s = (
                RESTART_PAUSE_S
                if lived_s > STEADY_AFTER_S
                else min(self.pause_s * 2, RESTART_PAUSE_CAP_S)
            )
            self.restart_at = now + self.pause_s
            log.warning(
                "worker died, restarting",
                queue=self.queue,
                code=self.process.returncode,
                log=str(self.log_path),
            )
        elif now >= self.restart_at:
            self.restart_at = 0.0
            self.start()

    def ask_to_stop(self) -> None:
        """Let the worker finish what it has begun."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def wait_until_stopped(self, deadline: float) -> None:
        """Wait until `deadline` (monotonic), then kill the worker with its children; their leases expire."""
        if self.process is not None:
            try:
                self.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("worker does not stop, killing it", queue=self.queue)
            # the pool's children share the worker's session; none may outlive the servers
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._close_log()

    def _close_log(self) -> None:
        if self._log_file is not None:
            self._log_file.close()
            self._log_file = None


_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def _stop_when_the_supervisor_dies() -> None:
    """Runs in the new process. A worker that outlived a killed supervisor would take wake-ups from its successor."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextlib.contextmanager
def running_service(settings: Settings) -> Iterator[Urls]:
    """Servers up, schema current, workers running until the block ends; then all of it stopped, in order.

    Raises DataDirectoryBusyError when another process runs the service on the same data directory.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with open_servers(settings, start_broker=True) as urls:
        with Database(urls.database) as database:
            migrate.upgrade(database.engine)
        workers = [_worker(queue, settings, urls) for queue in QUEUES]
        stop = threading.Event()
        watchdog = threading.Thread(
            target=_watch, args=(workers, stop), name="watchdog", daemon=True
        )
        try:
            for worker in workers:
                worker.start()
            watchdog.start()
            yield urls
        finally:
            stop.set()
            if watchdog.is_alive():
                watchdog.join()
            _stop(workers)


def run_until_interrupted(settings: Settings) -> None:
    """`aftercall up`: the service until SIGINT or SIGTERM."""
    interrupted = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: interrupted.set())
    with running_service(settings):
        log.info("running", data_dir=str(settings.data_dir), queues=list(QUEUES))
        interrupted.wait()
        log.info("stopping")


def _worker(queue: str, settings: Settings, urls: Urls) -> WorkerProcess:
    assert urls.broker is not None
    logs = settings.data_dir / "logs"
    logs.mkdir(exist_ok=True)
    environment = os.environ | {
        f"{PREFIX}DATABASE_URL": urls.database,
        f"{PREFIX}BROKER_URL": urls.broker,
        f"{PREFIX}DATA_DIR": str(settings.data_dir),
    }
    return WorkerProcess(queue, environment, logs / f"{queue}.log")


def _watch(workers: list[WorkerProcess], stop: threading.Event) -> None:
    while not stop.wait(POLL_S):
        for worker in workers:
            worker.keep_running()


def _stop(workers: list[WorkerProcess]) -> None:
    for worker in workers:
        worker.ask_to_stop()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    for worker in workers:
        worker.wait_until_stopped(deadline)
