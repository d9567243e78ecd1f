"""Where the time of steady steps goes: kernels by the range that launched them, and when the GPU has nothing to do."""

from __future__ import annotations

import json
import tempfile
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.diffusion_serve import ClosedLoop

RANGES = ("step", "trunk", "head", "constraint", "commit")
ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
LAUNCHES = ("cuda_runtime", "cuda_driver")
HOST_GAP_US = 10.0  # kernels of one graph follow each other faster; longer gaps wait for the host
TOP_KERNELS = 40


def profile_steps(loop: ClosedLoop, num_steps: int) -> dict[str, Any]:
    """Run twice so many steps under torch's profiler and say where their time went.

    The idle time is that of the second half, in which the host records nothing of what it does and so is not slowed.
    """
    entry = {"num_live": loop.num_live, "num_steps": num_steps}
    activities = [torch.profiler.ProfilerActivity.CPU]
    if not torch.cuda.is_available():
        return {**entry, **read_trace(_trace(loop, num_steps, activities), num_steps)}
    on_device = [torch.profiler.ProfilerActivity.CUDA]
    found = read_trace(_trace(loop, num_steps, activities + on_device), num_steps)
    unslowed = read_trace(_trace(loop, num_steps, on_device), num_steps)
    idle = {name: value for name, value in unslowed.items() if name.startswith("idle")}
    return {**entry, **found, **idle, "idle_of_step_ms": unslowed["step_ms"]}


def _trace(
    loop: ClosedLoop, num_steps: int, activities: list[torch.profiler.ProfilerActivity]
) -> list[dict[str, Any]]:
    with torch.profiler.profile(activities=activities, acc_events=True) as profiler:
        for _ in range(num_steps):
            loop.step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events: list[dict[str, Any]] = json.loads(path.read_text())["traceEvents"]
    return events


def read_trace(events: Iterable[dict[str, Any]], num_steps: int) -> dict[str, Any]:
    """Milliseconds per step of each range, of nothing, and of the longest kernels.

    A kernel belongs to the innermost range in which it was launched, alone or with a CUDA graph; "other" to none.
    Kernels of a captured step all belong to "step". A range "trunk 90+1500" is a forward over so many open positions
    and prompt tokens: its time is divided between "trunk" and "prefill" by their rows.
    Idle time is what no kernel and no copy covers between the first and the last of them.
    """
    timed = [_Event.read(event) for event in events if event.get("ph") == "X"]
    on_device = [event for event in timed if event.kind in ON_DEVICE]
    if not on_device:
        return {"note": "nothing ran on a GPU"}
    launches = {event.correlation: event for event in timed if event.kind in LAUNCHES}
    ranges = [e for e in timed if e.kind == "user_annotation" and _range_name(e.name) in RANGES]
    finder = _Finder(ranges)
    by_range: dict[str, float] = defaultdict(float)
    by_kernel: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in on_device:
        name = finder.name_at(launches.get(event.correlation))
        for part, share in _shares(name):
            by_range[part] += share * event.length_us
        by_kernel[_range_name(name), event.name].append(event.length_us)
    gaps, window_us = _gaps([(event.start_us, event.end_us) for event in on_device])
    longest = sorted(by_kernel.items(), key=lambda item: -sum(item[1]))[:TOP_KERNELS]
    return {
        "step_ms": window_us / num_steps / 1e3,
        "gpu_ms_per_step": {name: us / num_steps / 1e3 for name, us in sorted(by_range.items())},
        "idle_ms_per_step": sum(gaps) / num_steps / 1e3,
        "idle_share": sum(gaps) / window_us,
        "idle_share_host": sum(gap for gap in gaps if gap > HOST_GAP_US) / window_us,
        "num_launches_per_step": len(on_device) / num_steps,
        "longest_kernels": [
            {
                "range": range_name,
                "name": name[:120],
                "ms_per_step": sum(us) / num_steps / 1e3,
                "num": len(us),
            }
            for (range_name, name), us in longest
        ],
    }


def _range_name(name: str) -> str:
    return name.partition(" ")[0]


def _shares(name: str) -> list[tuple[str, float]]:
    """The parts of a range, and how much of its time goes to each."""
    range_name, _, rows = name.partition(" ")
    if not rows:
        return [(range_name, 1.0)]
    num_open, num_prompt = map(int, rows.split("+"))
    share = num_prompt / (num_open + num_prompt)
    return [(range_name, 1 - share), ("prefill", share)]


@dataclass(frozen=True, slots=True)
class _Event:
    """A stretch of time in a trace."""

    kind: str
    name: str
    thread: tuple[Any, Any]
    start_us: float
    length_us: float
    correlation: int | None

    @classmethod
    def read(cls, raw: dict[str, Any]) -> _Event:
        return cls(
            raw.get("cat", ""),
            raw["name"],
            (raw.get("pid"), raw.get("tid")),
            float(raw["ts"]),
            float(raw.get("dur", 0)),
            raw.get("args", {}).get("correlation"),
        )

    @property
    def end_us(self) -> float:
        return self.start_us + self.length_us


class _Finder:
    """The innermost range around a moment; ranges of a thread are nested or apart."""

    def __init__(self, ranges: Sequence[_Event]) -> None:
        self._ranges: dict[tuple[Any, Any], list[_Event]] = defaultdict(list)
        for event in sorted(ranges, key=lambda event: event.start_us):
            self._ranges[event.thread].append(event)

    def name_at(self, launch: _Event | None) -> str:
        if launch is None:
            return "other"
        ranges = self._ranges[launch.thread]
        last = bisect_right(ranges, launch.start_us, key=lambda event: event.start_us)
        for event in reversed(ranges[:last]):
            if event.end_us >= launch.start_us:
                return event.name
        return "other"


def _gaps(spans: Sequence[tuple[float, float]]) -> tuple[list[float], float]:
    """Lengths of the stretches that no span covers, and the length of the whole."""
    ordered = sorted(spans)
    first, covered = ordered[0]
    gaps = []
    for start, end in ordered:
        if start > covered:
            gaps.append(start - covered)
        covered = max(covered, end)
    return gaps, covered - first
