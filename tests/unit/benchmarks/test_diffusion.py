"""The arithmetic behind the figures of `benchmarks.diffusion`."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest
import torch

from benchmarks.diffusion import main
from benchmarks.diffusion_profile import read_trace
from benchmarks.diffusion_serve import percentile
from benchmarks.diffusion_work import Machine, roofline, work_of
from benchmarks.diffusion_workload import RECORDS, TINY, Sizes, Workload
from benchmarks.plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, Series, draw
from inference.diffusion.request import BranchResult


def event(kind: str, name: str, start: float, length: float, correlation: int | None = None):
    arguments = {} if correlation is None else {"correlation": correlation}
    thread = 7 if kind in ("kernel", "gpu_memcpy") else 1
    return {
        "ph": "X",
        "cat": kind,
        "name": name,
        "ts": start,
        "dur": length,
        "pid": 1,
        "tid": thread,
        "args": arguments,
    }


def test_kernels_belong_to_the_innermost_range_that_launched_them():
    found = read_trace(
        [
            event("user_annotation", "trunk", 0, 100),
            event("user_annotation", "head", 40, 20),
            event("user_annotation", "somebody else's", 41, 2),
            event("cuda_runtime", "cudaGraphLaunch", 10, 5, 1),
            event("cuda_runtime", "cudaLaunchKernel", 50, 5, 2),
            event("cuda_runtime", "cudaLaunchKernel", 70, 5, 3),
            event("cuda_driver", "cuLaunchKernelEx", 150, 5, 4),
            event("kernel", "gemm", 1000, 300, 1),
            event("kernel", "gemm", 1301, 299, 1),
            event("kernel", "reduce", 1600, 100, 2),
            event("gpu_memcpy", "copy", 1650, 50, 3),
            event("kernel", "stray", 1800, 200, 4),
            event("user_annotation", "trunk 100+300", 200, 10),
            event("cuda_runtime", "cudaLaunchKernel", 205, 1, 5),
            event("kernel", "mixed", 2000, 80, 5),
        ],
        num_steps=2,
    )
    assert found["gpu_ms_per_step"] == pytest.approx(
        {"trunk": 0.3345, "prefill": 0.03, "head": 0.05, "other": 0.1}
    )
    assert found["step_ms"] == pytest.approx(0.54)
    assert found["idle_share"] == pytest.approx(101 / 1080)
    assert found["idle_share_host"] == pytest.approx(100 / 1080)
    assert found["longest_kernels"][0] == {
        "range": "trunk",
        "name": "gemm",
        "ms_per_step": pytest.approx(0.2995),
        "num": 2,
    }


def result(workload: Workload, name: str, quotas: list[int]) -> BranchResult:
    steps = [step for step, quota in enumerate(quotas, start=1) for _ in range(quota)]
    return BranchResult("0", name, {}, {}, {"/text": tuple(steps)}, len(quotas), len(steps), None)


def test_work_counts_positions_that_are_open():
    workload = Workload.make(Sizes(), 1)
    plans = ([2] * 15, [4, 4, 4, 3, 3, 3, 3, 3, 3])
    found = [
        work_of(workload, [result(workload, name, quotas) for name in RECORDS]) for quotas in plans
    ]
    assert [work.open_positions for work in found] == [874, 574]
    # 15.0 GFLOP per position with the head, 0.5 MiB of keys and values per token
    assert found[0].weight_bytes == pytest.approx(15e9, rel=0.01)
    prompt = len(workload.prompts["0"])
    assert found[0].prefill_flops / prompt == pytest.approx(14.0e9, rel=0.06)
    read = 15 * (prompt + 160) * 2**19
    assert found[0].cache_bytes == pytest.approx(read)


def test_the_roofline_takes_the_slower_of_arithmetic_and_memory():
    workload = Workload.make(TINY, 1)
    work = work_of(workload, [result(workload, name, [7, 7]) for name in RECORDS])
    fast_memory = roofline(work, 2, 1.0, Machine(1e9, 1e30))
    assert fast_memory["least_s"] == pytest.approx((work.prefill_flops + work.step_flops) / 1e9)
    slow_memory = roofline(work, 2, 1.0, Machine(1e30, 1e6))
    assert slow_memory["least_s"] == pytest.approx((2 * work.weight_bytes + work.cache_bytes) / 1e6)


def test_prompts_and_canvases_have_the_planned_lengths():
    workload = Workload.make(TINY, 6)
    lengths = [len(prompt) for prompt in workload.prompts.values()]
    assert all(TINY.prompt[0] <= length <= TINY.prompt[1] for length in lengths)
    assert len(set(lengths)) > 1
    assert [branch.name for branch in workload.calls[0].branches] == list(RECORDS)
    assert len({call.call_id for call in workload.many(20)}) == 20


def test_percentiles_are_values_that_occurred():
    assert percentile([3.0, 1.0, 2.0], 0.95) == 3.0
    assert percentile(list(range(100)), 0.95) == 95


@pytest.mark.parametrize("is_logarithmic", [True, False])
def test_the_drawing_is_well_formed_and_shows_every_point(is_logarithmic):
    drawing = draw(
        "A < B",
        [Series("one", [(1.3, 0.8, "1"), (14.0, 2.2, "32")]), Series("two", [(0.6, 1.6, "")])],
        across=Axis("calls & more"),
        up=Axis("latency", is_logarithmic=is_logarithmic),
    )
    root = ElementTree.fromstring(drawing)
    circles = root.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 3 + 2  # points, and the legend
    points = [circle for circle in circles if circle.get("r") == "4"]
    places = [(float(c.get("cx", 0)), float(c.get("cy", 0))) for c in points]
    assert len(places) == 3
    assert all(LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT - BOTTOM for x, y in places)
    (low_x, low_y), (high_x, high_y) = places[0], places[1]
    assert low_x < high_x
    assert low_y > high_y, "larger values are higher up"


def test_a_rehearsal_finds_everything_right(tmp_path, capsys):
    threads = torch.get_num_threads()
    out = tmp_path / "diffusion.json"
    sections = ("autoregressive", "engine", "alone", "agreement", "published")
    only = [part for name in sections for part in ("--only", name)]
    assert main(["--rehearse", "--calls", "4", "--out", str(out), *only]) == 0
    torch.set_num_threads(threads)
    report = json.loads(out.read_text())
    assert "errors" not in report
    for key in ("autoregressive", "engine", "alone_and_together", "agreement", "published"):
        assert report[key]
        assert all(entry["right"] for entry in report[key]), report[key]
    assert {entry["steps_per_call"] for entry in report["engine"]} == {7, 3}
    assert "| NO |" not in capsys.readouterr().out
    assert out.with_suffix(".svg").exists()
