"""One process that owns a running service: the embedded servers, if any, and one worker process per queue."""

from __future__ import annotations

import contextlib
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

from db import queue as jobs
from db.errors import DatabaseBehindError
from db.session import Database
from workers.celery_app import QUEUES
from workers.local.servers import Urls, make_data_dir, open_servers
from workers.processors import threads_per_worker
from workers.settings import PREFIX, Settings
from workers.upgrade import bring_up_to_date

log = structlog.get_logger(__name__)
# A worker that dies at once, again and again, has a cause that a restart does not cure: wait longer each time.
RESTART_PAUSE_S = 1.0
RESTART_PAUSE_CAP_S = 60.0
STEADY_AFTER_S = 60.0
STOP_TIMEOUT_S = 20.0  # workers give back what they cannot finish in 8 s (workers.stopping)
POLL_S = 0.2
# Whisper's attention takes and returns hundreds of megabytes per layer; a fault per 4 kB was a third of the time.
HUGE_PAGES = "glibc.malloc.hugetlb=1"


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
        # -P: a folder named like a package of ours, where the command happens to be run, is not to be imported
        command = [sys.executable, "-P", "-m", "workers.process", self.queue]
        command += ["--end-with", str(os.getpid())]
        command += ["--schedule", str(self.log_path.with_name("sweep-schedule"))]
        self.process = subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log_file,
            stderr=subprocess.STDOUT,
            # its own session: Ctrl-C reaches the supervisor alone, which stops the workers in order
            start_new_session=True,
        )
        self.started_at = time.monotonic()

    def keep_running(self) -> None:
        """Restart the worker if it has died, after a pause that grows while it dies young."""
        if self.process is None or self.process.poll() is None:
            return
        now = time.monotonic()
        if self.restart_at == 0.0:
            self._kill_group()
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
        """Let the worker finish what it has begun, or give it back."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def wait_until_stopped(self, deadline: float) -> None:
        """Wait until `deadline` (monotonic), then kill the worker with its children; their leases expire."""
        if self.process is not None:
            try:
                self.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("worker does not stop, killing it", queue=self.queue)
            self._kill_group()
            self.process.wait()
        self._close_log()

    def _kill_group(self) -> None:
        """The pool's children share the worker's session; none may outlive it."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def _close_log(self) -> None:
        if self._log_file is not None:
            self._log_file.close()
            self._log_file = None


@contextlib.contextmanager
def running_service(settings: Settings) -> Iterator[Urls]:
    """Servers up, schema current, workers running until the block ends; then all of it stopped, in order.

    Raises DataDirectoryBusyError when another process runs the service on the same data directory, and StoreError for a
    database that does not answer or that is a later version's.
    """
    make_data_dir(settings)
    with open_servers(settings, start_broker=True) as urls:
        _prepare_database(settings, urls)
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
    """`aftercall up`: the service until SIGINT, SIGTERM or SIGHUP. An embedded server that dies starts it afresh."""
    is_interrupted = False

    # A plain flag: a handler runs in the midst of the loop below, and would wait for ever for the lock of a
    # threading.Event that the loop is waiting on.
    def interrupt(*_: object) -> None:
        nonlocal is_interrupted
        is_interrupted = True

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # under nohup, SIGHUP is to be ignored
            signal.signal(number, interrupt)
    while not is_interrupted:
        with running_service(settings) as urls:
            log.info("running", data_dir=str(settings.data_dir), queues=list(QUEUES))
            while not is_interrupted:
                if urls.dead_server is not None:
                    log.error("a server died, starting the service afresh", server=urls.dead_server)
                    break
                time.sleep(POLL_S)
            log.info("stopping")


def _prepare_database(settings: Settings, urls: Urls) -> None:
    with Database(urls.database, application="aftercall up") as database:
        with contextlib.suppress(DatabaseBehindError):
            database.check_schema_current()  # a schema of a later version is not to be touched
        bring_up_to_date(database)
        if settings.database_url is not None:
            return
        with database.unit_of_work() as session:
            # We alone use this database, and no worker of ours runs yet: whoever holds a lease was killed.
            expired = jobs.expire_all(session)
        if expired:
            log.warning("work was interrupted and is taken up again", jobs=len(expired))


def _worker(queue: str, settings: Settings, urls: Urls) -> WorkerProcess:
    assert urls.broker is not None
    logs = settings.data_dir / "logs"
    logs.mkdir(exist_ok=True)
    environment = {
        "OMP_NUM_THREADS": str(threads_per_worker()),
        "GLIBC_TUNABLES": HUGE_PAGES,
        **os.environ,
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
