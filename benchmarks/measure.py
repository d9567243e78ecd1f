"""Timing of one way to do a job: checked first, warmed up, then the median of many repetitions.

On a GPU the calls are captured in a CUDA graph and the graph is timed with events, as the engine runs its steps that
way and launches from Python would hide what kernels cost. Inputs rotate where one set would stay in the L2 cache.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

WARM_UP_CALLS = 3
GRAPH_CALLS = 4  # in one graph, so that its own launch does not count
TARGET_MS = 100.0  # of timed work per variant
MIN_REPETITIONS, MAX_REPETITIONS = 7, 100


@dataclass(frozen=True, slots=True)
class Job:
    """One way to do a job, ready to run.

    Attributes:
        call: runs it on the input set of the given number.
        check: says what is wrong with a result of input set 0; None when nothing is.
        num_sets: of inputs, to rotate through.
        captured: whether it can be captured in a CUDA graph; host code and syncs cannot.
        flops: of one call, for the rate.
        num_bytes: that one call must move at least, for the rate.
        beside: another way to do about the same, timed in turns with this one. On a card whose power is limited the
            same product takes up to 9 % longer a second later, so that close ratios need it.
    """

    call: Callable[[int], Any]
    check: Callable[[Any], str | None]
    num_sets: int = 1
    captured: bool = True
    flops: float = 0.0
    num_bytes: float = 0.0
    beside: Callable[[int], Any] | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """A job that is prepared when its turn comes. `is_baseline`: others of the same shape are compared with it."""

    section: str
    shape: str
    name: str
    prepare: Callable[[], Job]
    is_baseline: bool = False


class WrongResultError(Exception):
    """A variant computed something else than the reference."""


def measure(variant: Variant, device: torch.device) -> dict[str, Any]:
    """Check and time a variant.

    Raises:
        WrongResultError: its result is wrong, so that its time means nothing.
    """
    job = variant.prepare()
    begun = time.perf_counter()
    result = job.call(0)
    _synchronize(device)
    first_call_s = time.perf_counter() - begun
    if (complaint := job.check(result)) is not None:
        raise WrongResultError(complaint)
    del result
    extra_mib = _peak_extra_mib(job, device)
    timer = _time_on_gpu if device.type == "cuda" else _time_on_cpu
    times = timer(job)
    milliseconds = statistics.median(times)
    return {
        "ms": milliseconds,
        "spread": (max(times) - min(times)) / milliseconds,
        "repetitions": len(times),
        "captured": job.captured and device.type == "cuda",
        "first_call_s": first_call_s,
        "extra_mib": extra_mib,
        "tflops": job.flops / milliseconds / 1e9 or None,
        "gb_per_s": job.num_bytes / milliseconds / 1e6 or None,
        "ratio_in_turns": _ratio_in_turns(job, device),
    }


def _peak_extra_mib(job: Job, device: torch.device) -> float | None:
    """Memory that a call allocates at its peak, its result included."""
    if device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    job.call(0)
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _time_on_gpu(job: Job) -> list[float]:
    for i in range(WARM_UP_CALLS):
        job.call(i % job.num_sets)
    torch.cuda.synchronize()
    num_calls = max(GRAPH_CALLS, job.num_sets) if job.captured else 1
    if job.captured:
        graph = _captured(job.call, num_calls, job.num_sets)
        run: Callable[[int], Any] = lambda _: graph.replay()  # noqa: E731 -- the twin of `job.call`
    else:
        run = job.call
    run(0)
    first = _event_ms(lambda: run(0))
    repetitions = min(max(int(TARGET_MS / max(first, 1e-3)), MIN_REPETITIONS), MAX_REPETITIONS)
    return [
        _event_ms(lambda i=i: run(i % job.num_sets)) / num_calls  # type: ignore[misc]
        for i in range(repetitions)
    ]


def _ratio_in_turns(job: Job, device: torch.device) -> float | None:
    """Time of the job over that of what runs beside it, the median of pairs that follow each other."""
    if job.beside is None or device.type != "cuda":
        return None
    for _ in range(WARM_UP_CALLS):
        job.beside(0)
    graphs = [_captured(call, GRAPH_CALLS, job.num_sets) for call in (job.call, job.beside)]
    ratios = []
    for _ in range(MAX_REPETITIONS):
        own_ms, other_ms = (_event_ms(graph.replay) for graph in graphs)
        ratios.append(own_ms / other_ms)
    return statistics.median(ratios)


def _captured(call: Callable[[int], Any], num_calls: int, num_sets: int) -> torch.cuda.CUDAGraph:
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(num_calls):
            call(i % num_sets)
    return graph


def _event_ms(run: Callable[[], Any]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def _time_on_cpu(job: Job) -> list[float]:
    times = []
    for i in range(2):
        begun = time.perf_counter()
        job.call(i % job.num_sets)
        times.append((time.perf_counter() - begun) * 1e3)
    return times


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
