"""Serving a fixed list of calls with so many of them live at a time, and what must be true of the records."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.diffusion_work import Machine, roofline, work_of
from benchmarks.diffusion_workload import Workload
from inference.diffusion.engine import DiffusionEngine
from inference.diffusion.request import BranchResult, CallRequest


@dataclass(slots=True)
class ClosedLoop:
    """A call is given to the engine as soon as another one leaves, so that `num_live` are with it all the time."""

    engine: DiffusionEngine
    requests: Sequence[CallRequest]
    num_live: int
    results: list[BranchResult] = field(default_factory=list)
    latency_s: list[float] = field(default_factory=list)  # from being given to the last record
    finished_s: list[float] = field(default_factory=list)  # on the clock
    num_steps: int = 0
    _waiting: deque[CallRequest] = field(init=False)
    _added_s: dict[str, float] = field(default_factory=dict)
    _missing: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._waiting = deque(self.requests)

    @property
    def is_done(self) -> bool:
        """Whether the last record is out."""
        return not (self._waiting or self._missing)

    def step(self) -> None:
        """Fill up the places, then one step of the engine."""
        while self._waiting and len(self._missing) < self.num_live:
            request = self._waiting.popleft()
            self._added_s[request.call_id] = time.perf_counter()
            self._missing[request.call_id] = len(request.branches)
            self.engine.add(request)
        self.num_steps += 1
        for result in self.engine.step():
            self.results.append(result)
            self._missing[result.call_id] -= 1
            if self._missing[result.call_id] == 0:
                del self._missing[result.call_id]
                self.finished_s.append(time.perf_counter())
                self.latency_s.append(self.finished_s[-1] - self._added_s[result.call_id])

    def run(self) -> float:
        """Serve everything; seconds from the start to the last record."""
        begun = time.perf_counter()
        while not self.is_done:
            self.step()
        return self.finished_s[-1] - begun


def serve(
    engine: DiffusionEngine,
    workload: Workload,
    requests: Sequence[CallRequest],
    *,
    num_live: int,
    planned_steps: int,
    machine: Machine,
) -> dict[str, Any]:
    """Serve the calls, check the records, and tell the figures."""
    loop = ClosedLoop(engine, requests, num_live)
    seconds = loop.run()
    wrong = complaints(workload, requests, loop.results, planned_steps=planned_steps)
    work = work_of(workload, loop.results)
    return {
        "num_live": num_live,
        "num_calls": len(requests),
        "seconds": seconds,
        "calls_per_s": len(requests) / seconds,
        "steady_calls_per_s": _steady_rate(loop),
        "latency_p50_s": statistics.median(loop.latency_s),
        "latency_p95_s": percentile(loop.latency_s, 0.95),
        "mean_live": sum(loop.latency_s) / seconds,
        "engine_steps": loop.num_steps,
        "step_ms": 1e3 * seconds / loop.num_steps,
        "steps_per_call": statistics.mean(result.num_steps for result in loop.results),
        "tokens_per_call_and_forward": tokens_per_forward(loop.results),
        "open_positions_per_call": work.open_positions / len(requests),
        "roofline": roofline(work, loop.num_steps, seconds, machine),
        "right": not wrong,
        "complaints": wrong[:5],
    }


def complaints(
    workload: Workload,
    requests: Sequence[CallRequest],
    results: Sequence[BranchResult],
    *,
    planned_steps: int,
) -> list[str]:
    """What is wrong: a record missing or empty, a position not committed, a step too few or too many."""
    found = []
    expected = {(call.call_id, branch.name) for call in requests for branch in call.branches}
    got = [(result.call_id, result.name) for result in results]
    if len(got) != len(expected) or set(got) != expected:
        found.append(f"{len(got)} records, {len(expected)} expected")
    for result in results:
        who = f"call {result.call_id}, {result.name}"
        steps = [step for slot in result.commit_steps.values() for step in slot]
        if not all(isinstance(value, str) and value for value in result.value.values()):
            found.append(f"{who}: {result.value}")
        if len(steps) != sum(workload.sizes.slots) or min(steps) < 1:
            found.append(f"{who}: committed at {steps}")
        if not max(steps) == result.num_steps == planned_steps:
            found.append(f"{who}: {result.num_steps} steps, {planned_steps} planned")
    return found


def tokens_per_forward(results: Sequence[BranchResult]) -> float:
    """Tokens that a call commits in an average step, over its records."""
    tokens: dict[str, int] = defaultdict(int)
    steps: dict[str, int] = defaultdict(int)
    for result in results:
        tokens[result.call_id] += result.num_tokens
        steps[result.call_id] = max(steps[result.call_id], result.num_steps)
    return statistics.mean(tokens[call] / steps[call] for call in tokens)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not exceeded by this share of them."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _steady_rate(loop: ClosedLoop) -> float | None:
    """Calls per second while all places were taken: without the first fill and the last drain."""
    steady = loop.finished_s[loop.num_live // 2 : len(loop.requests) - loop.num_live]
    if len(steady) < max(3, loop.num_live // 2):
        return None
    return (len(steady) - 1) / (steady[-1] - steady[0])
