"""What serving costs at least: arithmetic and memory traffic of calls, and what the machine can do of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.diffusion_workload import Sizes, Workload
from inference.diffusion.request import BranchResult

WARM_UP, REPETITIONS = 3, 20


@dataclass(frozen=True, slots=True)
class Machine:
    """Measured limits: products of large matrices, and copies of large buffers (bytes read plus bytes written)."""

    flops_per_s: float
    bytes_per_s: float


def measure_machine(device: torch.device, dtype: torch.dtype) -> Machine:
    """What products and copies reach here."""
    size, num_elements = (8192, 2**30) if device.type == "cuda" else (256, 2**16)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    product_s = _seconds(lambda: a @ b.T, device)
    source = torch.zeros(num_elements, device=device, dtype=torch.bfloat16)
    target = torch.empty_like(source)
    copy_s = _seconds(lambda: target.copy_(source), device)
    return Machine(2.0 * size**3 / product_s, 2.0 * source.nbytes / copy_s)


@dataclass(frozen=True, slots=True)
class Work:
    """Of some calls from prompt to last record.

    Attributes:
        prefill_flops: of encoding the prompts.
        step_flops: of all steps: open positions through the trunk, masked ones through the head.
        open_positions: over all steps.
        weight_bytes: of the trunk and the head, to be read in every step of the engine.
        cache_bytes: keys and values to be read, those of a prompt once per step of its call.
    """

    prefill_flops: float
    step_flops: float
    open_positions: int
    weight_bytes: float
    cache_bytes: float


def work_of(workload: Workload, results: Sequence[BranchResult]) -> Work:
    """The least work that gives these records, from the steps in which their positions were committed."""
    sizes = workload.sizes
    layer = 4 * sizes.d_model**2 + 3 * sizes.d_model * sizes.mlp
    head = sizes.d_model * sizes.vocab
    row_bytes = 2 * sizes.d_model * sizes.n_layers * sizes.dtype.itemsize
    per_key = 4.0 * sizes.d_model * sizes.n_layers  # the two products of a query and a key
    step_flops = cache_bytes = 0.0
    open_positions = 0
    steps: dict[str, int] = {}
    for result in results:
        canvas = workload.canvas_tokens(result.name)
        seen = len(workload.prompts[result.call_id]) + canvas
        for num_open, num_masked in _positions_by_step(result, canvas):
            step_flops += num_open * (2.0 * layer * sizes.n_layers + per_key * seen)
            step_flops += 2.0 * num_masked * head
            open_positions += num_open
            cache_bytes += canvas * row_bytes
        steps[result.call_id] = max(result.num_steps, steps.get(result.call_id, 0))
    cache_bytes += sum(len(workload.prompts[c]) * n * row_bytes for c, n in steps.items())
    return Work(
        sum(_prefill_flops(sizes, len(workload.prompts[call])) for call in steps),
        step_flops,
        open_positions,
        (layer * sizes.n_layers + head) * sizes.dtype.itemsize,
        cache_bytes,
    )


def roofline(work: Work, num_steps: int, seconds: float, machine: Machine) -> dict[str, Any]:
    """The least time for this work on this machine, and its share of the time taken."""
    prefill_s = work.prefill_flops / machine.flops_per_s
    compute_s = work.step_flops / machine.flops_per_s
    memory_s = (num_steps * work.weight_bytes + work.cache_bytes) / machine.bytes_per_s
    least_s = prefill_s + max(compute_s, memory_s)
    return {
        "least_s": least_s,
        "prefill_compute_s": prefill_s,
        "steps_compute_s": compute_s,
        "steps_memory_s": memory_s,
        "fraction": least_s / seconds,
    }


def _prefill_flops(sizes: Sizes, length: int) -> float:
    """Of one prompt; the last layer stops at its keys and values."""
    width = sizes.d_model
    layer = 2.0 * length * (4 * width**2 + 3 * width * sizes.mlp) + 4.0 * width * length**2
    return layer * (sizes.n_layers - 1) + 2.0 * length * 3 * width**2


def _positions_by_step(result: BranchResult, canvas: int) -> Iterator[tuple[int, int]]:
    """Open and masked positions of a canvas in each of its steps. At first all are open."""
    committed = [step for slot in result.commit_steps.values() for step in slot]
    for step in range(1, result.num_steps + 1):
        num_masked = sum(at >= step for at in committed)
        fresh = sum(at == step - 1 for at in committed)
        yield (canvas if step == 1 else num_masked + fresh), num_masked


def _seconds(run: Callable[[], Any], device: torch.device) -> float:
    """Of one run, averaged over several."""
    for _ in range(WARM_UP):
        run()
    synchronize(device)
    begun = time.perf_counter()
    for _ in range(REPETITIONS):
        run()
    synchronize(device)
    return (time.perf_counter() - begun) / REPETITIONS


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()
