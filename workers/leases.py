"""Keeping a lease alive while the work runs, from a thread that cannot keep a hung worker alive for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from db import queue
from db.errors import StoreError
from db.queue import Lease, QueuePolicy
from db.session import Database

log = structlog.get_logger(__name__)
# Six beats fit in a lease, so that five may be lost to a slow database.
BEATS_PER_LEASE = 6


@contextmanager
def kept_alive(database: Database, lease: Lease, policy: QueuePolicy) -> Iterator[None]:
    """Extend `lease` in the background until the block ends.

    The queue stops extending at its hard cap: a thread of Python beats on while a kernel hangs. A lost lease is noticed
    where it matters, at the fenced write.
    """
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(policy.lease_s / BEATS_PER_LEASE):
            try:
                with database.unit_of_work() as session:
                    queue.heartbeat(session, lease, policy=policy)
            except StoreError as error:  # the next beat tries again; the lease outlives several
                log.warning("heartbeat failed", error=str(error))

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
