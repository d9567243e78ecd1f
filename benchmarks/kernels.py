"""Every decoding kernel against the alternatives, on one GPU: `python -m benchmarks.kernels --out FILE`.

Each variant is checked before it is timed, and one that is wrong, fails or hangs costs its own line only. `--rehearse`
runs everything on tiny shapes on the CPU (with TRITON_INTERPRET=1), to see that it runs; its times mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import triton

from benchmarks.kernel_cases import (
    attention,
    head,
    norm,
    projections,
    prompts,
    rope_store,
)
from benchmarks.measure import Variant, WrongResultError, measure
from benchmarks.supervise import supervise

SECTIONS = ("head", "projections", "attention", "prompts", "rope", "norm")
JOB_LIMIT_S = 45.0  # a worker's start, its first compilation and a reference, with room
COMPILE_LIMIT_S = 60.0
NUM_COMPILERS = 8


@dataclass(frozen=True, slots=True)
class Sizes:
    head: head.HeadSizes = field(default_factory=head.HeadSizes)
    projections: projections.ProjectionSizes = field(default_factory=projections.ProjectionSizes)
    attention: attention.AttentionSizes = field(default_factory=attention.AttentionSizes)
    prompts: prompts.PromptSizes = field(default_factory=prompts.PromptSizes)
    rope: rope_store.RopeSizes = field(default_factory=rope_store.RopeSizes)
    norm: norm.NormSizes = field(default_factory=norm.NormSizes)


FULL = Sizes()
# float32, as the interpreter multiplies bfloat16 matrices wrongly
TINY = Sizes(
    head.HeadSizes(num_rows=(3,), vocab=700, d_model=64, dtype=torch.float32),
    projections.ProjectionSizes(num_rows=(5,), d_model=64, mlp=96, dtype=torch.float32),
    attention.AttentionSizes(
        num_calls=(1, 2),
        heads=((2, 2), (4, 2)),
        head_dim=64,
        prompt=(60, 90),
        canvases=(9, 5),
        num_open=3,
        splits=(64,),
        dtype=torch.float32,
    ),
    prompts.PromptSizes(lengths=((40, 61), (50,)), heads=2, head_dim=64, dtype=torch.float32),
    rope_store.RopeSizes(num_rows=(5,), heads=((4, 2),), head_dim=64, dtype=torch.float32),
    norm.NormSizes(num_rows=(5,), width=64, dtype=torch.float32),
)


def main(arguments: list[str] | None = None) -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="sections to run")
    parser.add_argument("--budget-s", type=float, default=170.0, help="time for the whole")
    parser.add_argument("--rehearse", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument("--worker-from", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--compiler", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not options.rehearse and not torch.cuda.is_available():
        parser.error("there is no GPU; --rehearse runs on the CPU")
    device = torch.device("cpu" if options.rehearse else "cuda")
    jobs = list(_all_variants(options.only or SECTIONS, device, options.rehearse))
    if options.worker_from is not None:
        _work(jobs[options.worker_from :], device)
        return 0
    if options.compiler is not None:
        _compile(jobs[options.compiler :: NUM_COMPILERS])
        return 0
    return _supervise(jobs, device, options)


def _all_variants(
    sections: tuple[str, ...] | list[str], device: torch.device, is_rehearsal: bool
) -> Iterator[Variant]:
    """What matters most comes first."""
    sizes = TINY if is_rehearsal else FULL
    if "head" in sections:
        yield from head.variants(head.HeadBench(sizes.head, device))
    if "projections" in sections:
        yield from projections.variants(sizes.projections, device)
    if "rope" in sections:
        yield from rope_store.variants(sizes.rope, device)
    if "norm" in sections:
        yield from norm.variants(sizes.norm, device)
    if "prompts" in sections:
        yield from prompts.variants(sizes.prompts, device)
    if "attention" in sections:
        yield from attention.variants(sizes.attention, device)


def _work(jobs: list[Variant], device: torch.device) -> None:
    """The worker: one JSON line per variant."""
    for variant in jobs:
        record: dict[str, Any]
        try:
            record = measure(variant, device)
        except WrongResultError as error:
            record = {"error": f"wrong: {error}"}
        except Exception as error:  # noqa: BLE001 -- a library or compiler that fails is a result here
            record = {"error": f"{type(error).__name__}: {str(error)[:500]}"}
        print(json.dumps(record), flush=True)


def _compile(jobs: list[Variant]) -> None:
    """Fill the compilers' caches on disk. What fails here will fail again where it is recorded."""
    for variant in jobs:
        with contextlib.suppress(Exception):
            variant.prepare().call(0)


def _compile_beside_each_other(command: list[str]) -> float:
    """Compile with several processes, for a limited time; the seconds it took."""
    begun = time.monotonic()
    compilers = [
        subprocess.Popen(
            [*command, "--compiler", str(i)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for i in range(NUM_COMPILERS)
    ]
    for compiler in compilers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            compiler.wait(max(0.1, begun + COMPILE_LIMIT_S - time.monotonic()))
        compiler.kill()
        compiler.wait()
    return time.monotonic() - begun


def _supervise(jobs: list[Variant], device: torch.device, options: argparse.Namespace) -> int:
    machine = _describe_machine(device)
    records: list[dict[str, Any]] = []

    def keep(job: int, record: dict[str, Any]) -> None:
        variant = jobs[job]
        names = {"section": variant.section, "shape": variant.shape, "variant": variant.name}
        records.append({**names, "is_baseline": variant.is_baseline, **record})
        options.out.write_text(json.dumps({**machine, "records": records}, indent=1))
        print(_progress(records[-1]), file=sys.stderr, flush=True)

    own_arguments = ["--out", str(options.out), *(["--rehearse"] if options.rehearse else [])]
    own_arguments += [part for section in options.only or () for part in ("--only", section)]
    command = [sys.executable, "-m", "benchmarks.kernels", *own_arguments]
    spent_s = _compile_beside_each_other(command) if device.type == "cuda" else 0.0
    supervise(
        lambda done: [*command, "--worker-from", str(done)],
        len(jobs),
        job_limit_s=JOB_LIMIT_S,
        total_limit_s=options.budget_s - spent_s,
        on_record=keep,
    )
    print(_table(machine, records))
    return 0


def _describe_machine(device: torch.device) -> dict[str, Any]:
    machine: dict[str, Any] = {"torch": torch.__version__, "triton": triton.__version__}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        machine |= {
            "device": properties.name,
            "multiprocessors": properties.multi_processor_count,
            "l2_mib": properties.L2_cache_size / 2**20,
        }
    return {**machine, "device": machine.get("device", f"CPU ({os.cpu_count()} cores)")}


def _progress(record: dict[str, Any]) -> str:
    outcome = record.get("error") or f"{record['ms']:.4f} ms"
    return f"{record['section']}, {record['shape']}, {record['variant']}: {outcome[:160]}"


def _table(machine: dict[str, Any], records: list[dict[str, Any]]) -> str:
    lines = [f"{machine['device']}, torch {machine['torch']}, triton {machine['triton']}"]
    group = None
    baseline: float | None = None
    for record in sorted(records, key=lambda r: (SECTIONS.index(r["section"]), _first(records, r))):
        if (record["section"], record["shape"]) != group:
            group = (record["section"], record["shape"])
            baseline = None
            lines += ["", f"{record['section']}: {record['shape']}"]
        if record["is_baseline"]:
            baseline = record.get("ms")
        lines.append("  " + _row(record, baseline))
    return "\n".join(lines)


def _first(records: list[dict[str, Any]], record: dict[str, Any]) -> int:
    """Place of the first record of the same shape, so that a shape's lines stay together."""
    key = (record["section"], record["shape"])
    return next(i for i, r in enumerate(records) if (r["section"], r["shape"]) == key)


def _row(record: dict[str, Any], baseline: float | None) -> str:
    name = f"{record['variant']:<36}"
    if "error" in record:
        return f"{name} {record['error'][:120]}"
    ratio = f"{record['ms'] / baseline:6.3f}x" if baseline else " " * 7
    parts = [f"{record['ms']:10.4f} ms", ratio, f"±{record['spread'] * 50:3.0f} %"]
    if record.get("ratio_in_turns"):
        parts.append(f"{record['ratio_in_turns']:.3f} of the product in turns")
    if record["tflops"]:
        parts.append(f"{record['tflops']:6.1f} TFLOP/s")
    if record["gb_per_s"]:
        parts.append(f"{record['gb_per_s']:7.0f} GB/s")
    if record["extra_mib"] is not None:
        parts.append(f"+{record['extra_mib']:.0f} MiB")
    return " ".join([name, *parts, "" if record["captured"] else "(eager)"])


if __name__ == "__main__":
    sys.exit(main())
