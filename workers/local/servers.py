"""Which servers a command talks to: the configured ones, those of a running supervisor, or its own for a while.

The first process that needs an embedded server becomes its owner: it holds `owner.lock`, starts the servers and writes
their URLs to `runtime.json`. Others read the URLs and hold `clients.lock` shared while they work; an owner takes it
exclusively before it stops the servers, so that no command loses its database in mid-sentence.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workers.local.broker import LocalBroker
from workers.local.postgres import LocalPostgres
from workers.settings import Settings

# An owner that has the lock but not yet a runtime file is starting its servers; initdb takes seconds on a slow disk.
OWNER_START_TIMEOUT_S = 60.0


class DataDirectoryBusyError(Exception):
    """Another process owns the data directory and its servers cannot be reached."""


@dataclass(frozen=True, slots=True)
class Urls:
    """Where Postgres and the broker answer. `broker` is None when nobody runs one: work is then only recorded."""

    database: str
    broker: str | None
    owned: tuple[LocalPostgres | LocalBroker, ...] = ()  # the servers that this process runs

    @property
    def dead_server(self) -> str | None:
        """The name of an owned server that has died, if any."""
        dead = (type(server).__name__ for server in self.owned if not server.is_running)
        return next(dead, None)


@contextlib.contextmanager
def open_servers(settings: Settings, *, start_broker: bool) -> Iterator[Urls]:
    """Yield the URLs of the servers to use, starting and later stopping the embedded ones if nobody runs them.

    With `start_broker` the caller wants to own the servers (the supervisor): raises DataDirectoryBusyError if another
    process does. Without it a running supervisor's servers are used, or just Postgres is started; with a configured
    database a supervisor's broker is used if it runs, and nothing is started.
    """
    if settings.database_url is not None and (settings.broker_url is not None or not start_broker):
        with contextlib.ExitStack() as stack:
            broker_url = settings.broker_url or _running_broker(stack, settings)
            yield Urls(settings.database_url, broker_url)
        return
    make_data_dir(settings)
    deadline = time.monotonic() + OWNER_START_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.ExitStack() as stack:
            if _try_lock(stack, settings.data_dir / "owner.lock"):
                yield stack.enter_context(_own(settings, start_broker=start_broker))
                return
            if start_broker:
                raise DataDirectoryBusyError(
                    f"another aftercall process owns {settings.data_dir}; "
                    "stop it first, or set AFTERCALL_DATA_DIR"
                )
            urls = _try_to_join(stack, settings.data_dir)
            if urls is not None:
                yield urls
                return
        time.sleep(0.05)  # the owner is starting its servers, or stopping them
    raise DataDirectoryBusyError(
        f"another aftercall process owns {settings.data_dir} but its servers did not come up; "
        "see the logs there"
    )


def make_data_dir(settings: Settings) -> None:
    """Create the data directory, if there is none, for its owner alone."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextlib.contextmanager
def _own(settings: Settings, *, start_broker: bool) -> Iterator[Urls]:
    runtime_path = settings.data_dir / "runtime.json"
    owned: list[LocalPostgres | LocalBroker] = []
    try:
        database_url, broker_url = settings.database_url, settings.broker_url
        if database_url is None:
            postgres = LocalPostgres(settings.data_dir / "postgres")
            owned.append(postgres)
            database_url = postgres.start()
        if broker_url is None and start_broker:
            broker = LocalBroker(settings.data_dir)
            owned.append(broker)
            broker_url = broker.start()
        urls = Urls(database_url, broker_url, tuple(owned))
        _write_runtime(runtime_path, urls)
        yield urls
    finally:
        runtime_path.unlink(missing_ok=True)
        with contextlib.ExitStack() as stack:
            _lock(stack, settings.data_dir / "clients.lock", fcntl.LOCK_EX)
            for server in reversed(owned):
                server.stop()


def _try_to_join(stack: contextlib.ExitStack, data_dir: Path) -> Urls | None:
    """The running servers' URLs, with a hold on them; None while there are none.

    The hold comes first: an owner that has withdrawn its URLs is only waiting for holds to end.
    """
    with contextlib.ExitStack() as hold:
        _lock(hold, data_dir / "clients.lock", fcntl.LOCK_SH)
        try:
            urls = Urls(**json.loads((data_dir / "runtime.json").read_text()))
        except FileNotFoundError:
            return None
        stack.push(hold.pop_all())
    return urls


def _running_broker(stack: contextlib.ExitStack, settings: Settings) -> str | None:
    """The broker that a running supervisor embeds, with a hold on it; None while nobody runs one for this database.

    A supervisor that was killed leaves its URLs behind, but not its lock. A data directory that is another user's, or
    that is not there, is left alone.
    """
    try:
        if not (settings.data_dir / "runtime.json").exists():
            return None
        with contextlib.ExitStack() as probe:
            if _try_lock(probe, settings.data_dir / "owner.lock", fcntl.LOCK_SH):
                return None
        with contextlib.ExitStack() as hold:
            urls = _try_to_join(hold, settings.data_dir)
            if urls is None or urls.database != settings.database_url:
                return None
            stack.push(hold.pop_all())
            return urls.broker
    except PermissionError:
        return None


def _write_runtime(path: Path, urls: Urls) -> None:
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)  # the URLs hold passwords
    partial.write_text(json.dumps({"database": urls.database, "broker": urls.broker}))
    os.replace(partial, path)


def _try_lock(stack: contextlib.ExitStack, path: Path, how: int = fcntl.LOCK_EX) -> bool:
    try:
        _lock(stack, path, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock(stack: contextlib.ExitStack, path: Path, how: int) -> None:
    """Hold `path` until the stack closes. Raises BlockingIOError when it is held and `how` is non-blocking."""
    file = path.open("a")
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        file.close()
        raise
    stack.enter_context(file)
