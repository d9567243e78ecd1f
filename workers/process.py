"""One worker process: `python -m workers.process transcribe|analyze|sweep`. The supervisor runs one of each.

The same command starts a worker on a machine of its own, with AFTERCALL_DATABASE_URL and AFTERCALL_BROKER_URL set.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import warnings

from celery.signals import beat_embedded_init

from workers.celery_app import QUEUES, app

# One process at a time works on a stage: more of them would take turns at the same processor or GPU.
_POOL = ("--pool", "prefork", "--concurrency", "1")
# Sweeping is a few short statements, which need no process of their own; the scheduler that calls for it runs beside.
_SWEEPER = ("--pool", "solo", "--beat")
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main(arguments: list[str] | None = None) -> None:
    """Work until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m workers.process", description=__doc__)
    parser.add_argument("queue", choices=QUEUES)
    parser.add_argument(
        "--schedule", default="aftercall-schedule", help="file that the sweep's scheduler keeps"
    )
    parser.add_argument(
        "--end-with", type=int, metavar="PID", help="end as soon as this parent process is gone"
    )
    options = parser.parse_args(arguments)
    if options.end_with is not None:
        _end_with(options.end_with)
    # Only JSON is accepted from the broker, so that root is as safe as anybody: it is the user of most containers.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser")
    name = f"{options.queue}-{os.getpid()}@%h"  # there may be several on a machine, one per GPU
    command = ["--quiet", "worker", "--queues", options.queue, "--hostname", name]
    # the level is what billiard, in the pool, writes in a format of its own; all else goes by workers.logs
    command += ["--without-gossip", "--without-mingle", "--loglevel", "WARNING"]
    command += [*_SWEEPER, "--schedule", options.schedule] if options.queue == "sweep" else _POOL
    app.worker_main(command)


def _end_with(parent: int) -> None:
    """A worker that outlived its supervisor would take wake-ups from the next one."""
    _signal_at_death_of_parent(signal.SIGTERM)
    if os.getppid() != parent:  # it died before we asked
        raise SystemExit(1)


@beat_embedded_init.connect
def _end_with_the_worker(**_: object) -> None:
    # Celery does the same for its pool processes, not for the scheduler.
    _signal_at_death_of_parent(signal.SIGKILL)


def _signal_at_death_of_parent(number: signal.Signals) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


if __name__ == "__main__":
    main()
