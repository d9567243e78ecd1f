"""Runs a list of jobs in a worker process that may crash or hang, and goes on behind the job that broke it.

A kernel that reads beyond its memory ends the CUDA context and a deadlocked one never returns; neither may cost the
rest of a benchmark. The worker prints one JSON line per finished job, and is started again with the number to skip.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

Record = dict[str, Any]


def supervise(
    command: Callable[[int], Sequence[str]],
    num_jobs: int,
    *,
    job_limit_s: float,
    total_limit_s: float,
    on_record: Callable[[int, Record], None],
) -> None:
    """Run jobs 0 to `num_jobs` - 1 and report each: the worker's record, or one with the `error`.

    Args:
        command: the worker's command line, given how many jobs to skip.
        num_jobs: how many there are.
        job_limit_s: longest silence of a worker, its start included, before it is killed.
        total_limit_s: after which the jobs left are reported as not run.
        on_record: called with the number of each job and its record.
    """
    deadline = time.monotonic() + total_limit_s
    done = 0
    while done < num_jobs and time.monotonic() < deadline:
        worker = subprocess.Popen(list(command(done)), stdout=subprocess.PIPE, text=True)
        lines = _lines_of(worker)
        error = None
        while done < num_jobs and error is None:
            wait = min(job_limit_s, deadline - time.monotonic())
            try:
                line = lines.get(timeout=max(wait, 0.01))
            except queue.Empty:
                error = f"no answer in {wait:.0f} s"
                break
            if line is None:
                error = f"the worker ended with exit code {worker.wait()}"
                break
            on_record(done, json.loads(line))
            done += 1
        worker.kill()
        worker.wait()
        if error is not None:
            on_record(done, {"error": error})
            done += 1
    for job in range(done, num_jobs):
        on_record(job, {"error": "not run: the time for the whole was up"})


def _lines_of(worker: subprocess.Popen[str]) -> queue.Queue[str | None]:
    """JSON lines of the worker as they come, then None. Other output is passed by."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert worker.stdout is not None
        for line in worker.stdout:
            if line.startswith("{"):
                lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return lines
