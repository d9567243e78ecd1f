"""Stopping in order: a worker that is told to end claims no more, and gives back what it cannot finish soon.

Celery's warm shutdown waits for running tasks without limit, and a drain would go on for as long as there is work. So
the worker passes the word to its pool processes (SIGUSR2). There the drain claims nothing more, and work that is not
finished after `GRACE_S` is interrupted; its lease is released, so that another worker takes it up without blame.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from billiard.process import active_children
from celery.signals import worker_process_init, worker_shutting_down

STOP_SIGNAL = signal.SIGUSR2
# Most calls end within it; with the longest pass through a model it stays below the 20 s that the supervisor waits.
GRACE_S = 8.0


class WorkerStopping(BaseException):
    """The worker has to end now; what it works on is to be given back. Like KeyboardInterrupt, it is no Exception."""


class _Stop:
    """Whether this process is to end, and whether it is in the middle of work that may be interrupted."""

    requested = False
    is_working = False


def stop_requested() -> bool:
    """Whether this process has been told to end: claim nothing more."""
    return _Stop.requested


@contextmanager
def interruptible() -> Iterator[None]:
    """Work that raises WorkerStopping when the process has been told to end and the grace is over."""
    _Stop.is_working = True
    try:
        yield
    finally:
        _Stop.is_working = False


def listen() -> None:
    """Let this process, in its main thread, be told to end by STOP_SIGNAL."""
    signal.signal(STOP_SIGNAL, _on_stop)
    signal.signal(signal.SIGALRM, _on_grace_over)


def _on_stop(*_: object) -> None:
    _Stop.requested = True
    signal.setitimer(signal.ITIMER_REAL, GRACE_S)


def _on_grace_over(*_: object) -> None:
    if _Stop.is_working:
        raise WorkerStopping


@worker_process_init.connect
def _listen_in_the_pool(**_: object) -> None:
    listen()


@worker_shutting_down.connect
def _tell_the_pool(**_: object) -> None:
    for process in active_children():
        if "PoolWorker" in process.name:  # the scheduler is a child too, and Celery's to stop
            with suppress(ProcessLookupError):
                os.kill(process.pid, STOP_SIGNAL)
