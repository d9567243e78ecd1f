"""The engine on one GPU at the shape of LLaDA-8B: `python -m benchmarks.diffusion --out FILE`.

Ragged prompts of 1,000 to 2,000 tokens, three records per call with 160 positions together of which 90 are decoded,
random weights. The commit schedule is planted: so many steps per record, as LLaDA's quota spreads them, because random
weights are sure of nothing. In the same run: an autoregressive decoder of the same size, and the published decoding.
Every figure stands beside the check that the output was right. FILE is written anew after each measurement, and a
drawing of calls per second against latency beside it. `--rehearse` runs tiny shapes on the CPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.diffusion_baselines import Autoregressive, free_memory, measure_published
from benchmarks.diffusion_check import agreement, alone_and_together
from benchmarks.diffusion_profile import profile_steps
from benchmarks.diffusion_report import describe
from benchmarks.diffusion_serve import ClosedLoop, serve
from benchmarks.diffusion_work import Machine, measure_machine
from benchmarks.diffusion_workload import TINY, Sizes, Workload, random_model
from benchmarks.plot import Axis, Series, draw
from inference.diffusion.engine import DiffusionEngine
from inference.diffusion.model import LladaModel
from inference.diffusion.rules import Quota

SECTIONS = ("autoregressive", "engine", "profile", "alone", "agreement", "published")
RESERVE_GIB = 7.0  # beside weights and cache: activations of a prefill, graphs, libraries
CALLS_PER_PLACE = {1: 8, 8: 48}  # of the list, for few live calls; all of it for more
PROFILED_STEPS = 24


class Benchmark:
    """All measurements, in the order in which they are worth most."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._device = torch.device("cpu" if options.rehearse else "cuda")
        self._sizes: Sizes = TINY if options.rehearse else Sizes()
        if options.prompt:
            self._sizes = replace(self._sizes, prompt=(options.prompt, options.prompt))
        self._workload = Workload.make(self._sizes, options.calls)
        self._begun = time.perf_counter()
        self._report: dict[str, Any] = {
            "device": "CPU" if options.rehearse else torch.cuda.get_device_name(),
            "deterministic": options.deterministic,
            "torch": torch.__version__,
            "prompt_tokens": [len(prompt) for prompt in self._workload.prompts.values()],
            "canvas_tokens": self._sizes.output,
            "masked": self._sizes.masked,
        }
        self._machine = Machine(1.0, 1.0)
        self._models: list[LladaModel] = []

    def run(self) -> None:
        """Measure what was asked for while time is left."""
        self._machine = measure_machine(self._device, self._sizes.dtype)
        self._note("machine", {"tflops": self._machine.flops_per_s / 1e12})
        self._report["machine"]["gb_per_s"] = self._machine.bytes_per_s / 1e9
        sections: dict[str, Callable[[], None]] = {
            "autoregressive": self._autoregressive,
            "engine": self._engines,
            "alone": self._alone,
            "agreement": self._agreement,
            "published": self._published,
        }
        for name, section in sections.items():
            if name not in self._options.only and not (
                name == "engine" and "profile" in self._options.only
            ):
                continue
            try:
                section()
            except Exception as error:  # what was measured before is kept
                if self._options.rehearse:
                    raise
                self._note("errors", f"{name}: {type(error).__name__}: {str(error)[:1000]}")
            free_memory()
        self._draw()

    # sections

    def _autoregressive(self) -> None:
        decoder = Autoregressive(self._workload, self._device)
        for entry in decoder.measure():
            self._note("autoregressive", entry)
            if self._is_late():
                return

    def _engines(self) -> None:
        for steps in self._options.steps:
            engine = self._engine(steps)
            self._warm_up(engine)
            for num_live in self._options.live:
                if "engine" in self._options.only:
                    self._serve("engine", engine, steps, num_live)
                if self._is_late():
                    return
            if "profile" in self._options.only:
                for num_live in sorted({self._options.live[0], min(self._options.live)}):
                    self._profile(engine, steps, num_live)
            del engine
            free_memory()

    def _profile(self, engine: DiffusionEngine, steps: int, num_live: int) -> None:
        """Steps in the middle of serving, when all places are taken."""
        unprofiled = 3 * steps
        enough = num_live * (2 + (unprofiled + 2 * PROFILED_STEPS) // steps)
        loop = ClosedLoop(engine, self._workload.many(enough), num_live)
        for _ in range(unprofiled):
            loop.step()
        self._note("profile", {"steps": steps, **profile_steps(loop, PROFILED_STEPS)})
        engine.clear()

    def _alone(self) -> None:
        """Same call, same record; and what happens without `deterministic`."""
        steps, most = self._options.steps[0], max(self._options.live)
        calls = self._workload.calls[:most]
        chosen = [0, len(calls) // 2, len(calls) - 1]
        for deterministic in (True, False):
            engine = self._engine(steps, deterministic=deterministic)
            self._warm_up(engine)
            found = alone_and_together(engine, calls, chosen)
            found["right"] = not (deterministic and found["num_results_differing"])
            self._note("alone_and_together", {"deterministic": deterministic, **found})
            del engine
            free_memory()
            if self._is_late():
                return

    def _agreement(self) -> None:
        engine = self._engine(1, max_live=4)
        calls = self._workload.calls[:4]
        self._note("agreement", agreement(engine, self._model(), self._workload, calls))

    def _published(self) -> None:
        for entry in measure_published(self._workload, self._model(), self._device):
            self._note("published", entry)
            if self._is_late():
                return

    # parts

    def _model(self) -> LladaModel:
        """Made when first needed: the autoregressive decoder wants the memory before."""
        if not self._models:
            self._models.append(random_model(self._sizes, self._workload.tokenizer, self._device))
        return self._models[0]

    def _engine(
        self, steps: int, *, max_live: int | None = None, deterministic: bool | None = None
    ) -> DiffusionEngine:
        model = self._model()
        max_live = max_live or max(self._options.live)
        rows = max_live * self._sizes.longest_call
        if self._device.type == "cuda":
            free, _ = torch.cuda.mem_get_info()
            row_bytes = 2 * self._sizes.n_layers * self._sizes.d_model * self._sizes.dtype.itemsize
            rows = min(rows, int((free - self._options.reserve_gib * 2**30) / row_bytes))
        return DiffusionEngine(
            model,
            self._workload.tokenizer,  # type: ignore[arg-type]
            rule=Quota(num_steps=steps),
            max_batch_tokens=rows,
            max_batch_calls=max_live,
            deterministic=self._options.deterministic if deterministic is None else deterministic,
        )

    def _warm_up(self, engine: DiffusionEngine) -> None:
        """Compile, capture and load what later steps use: a full batch, which drains to the last call."""
        begun = time.perf_counter()
        calls = self._workload.calls[: max(self._options.live)]
        ClosedLoop(engine, calls, max(self._options.live)).run()
        self._note("warm_up_s", time.perf_counter() - begun)

    def _serve(self, key: str, engine: DiffusionEngine, steps: int, num_live: int) -> None:
        count = CALLS_PER_PLACE.get(num_live, len(self._workload.calls))
        requests = self._workload.calls[:count]
        if num_live < max(self._options.live):  # small batches have shapes of their own
            for _ in range(2):  # the second time they are captured
                ClosedLoop(engine, requests[: max(8, num_live)], num_live).run()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        entry = serve(
            engine,
            self._workload,
            requests,
            num_live=num_live,
            planned_steps=steps,
            machine=self._machine,
        )
        if self._device.type == "cuda":
            entry["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        self._note(key, {"steps": steps, **entry})

    def _is_late(self) -> bool:
        return time.perf_counter() - self._begun > self._options.budget_s

    def _note(self, key: str, entry: Any) -> None:
        """Keep a result, on disk too."""
        if key == "machine":
            self._report[key] = entry
        else:
            self._report.setdefault(key, []).append(entry)
        self._options.out.write_text(json.dumps(self._report, indent=1) + "\n")
        print(f"{time.perf_counter() - self._begun:6.1f} s  {key}: {_short(entry)}", flush=True)

    def _draw(self) -> None:
        series = [
            Series(
                f"Aftercall, {self._sizes.masked / steps:.2g} tokens per forward",
                [
                    (entry["calls_per_s"], entry["latency_p95_s"], str(entry["num_live"]))
                    for entry in sorted(self._report.get("engine", []), key=_num_live)
                    if entry["steps"] == steps
                ],
            )
            for steps in self._options.steps
        ]
        best: dict[int, dict[str, Any]] = {}
        for entry in self._report.get("autoregressive", []):
            known = best.get(entry["batch"])
            if "latency_s" in entry and (not known or entry["latency_s"] < known["latency_s"]):
                best[entry["batch"]] = entry
        points = [(e["calls_per_s"], e["latency_s"], str(batch)) for batch, e in best.items()]
        series.append(Series("autoregressive, same size", points))
        published = [
            (entry["calls_per_s"], entry["latency_s"], f"{entry['tokens_per_forward']} per forward")
            for entry in self._report.get("published", [])
        ]
        series.append(Series("published decoding of LLaDA", published))
        shown = [one for one in series if one.points]
        if shown:
            title = f"Calls per second against latency, {self._report['device']}"
            latency = Axis("95th percentile of latency", is_logarithmic=True, text=_duration)
            drawing = draw(title, shown, across=Axis("calls per second"), up=latency)
            self._options.out.with_suffix(".svg").write_text(drawing)


def _num_live(entry: dict[str, Any]) -> int:
    num_live: int = entry["num_live"]
    return num_live


def _short(entry: Any) -> str:
    """An entry on one line."""
    if not isinstance(entry, dict):
        return f"{entry:.3f}" if isinstance(entry, float) else str(entry)
    parts = []
    for name, value in entry.items():
        if isinstance(value, float):
            parts.append(f"{name} {value:.4g}")
        elif isinstance(value, dict):
            parts.append(f"{name} ({_short(value)})")
        elif not isinstance(value, list) or (name == "complaints" and value):
            parts.append(f"{name} {value}")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    return f"{1e3 * seconds:g} ms" if seconds < 1 else f"{seconds:g} s"


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="sections to run")
    parser.add_argument("--calls", type=int, default=192, help="length of the list of calls")
    parser.add_argument(
        "--live", type=_numbers, default=[64, 1, 32, 8], help="numbers of live calls"
    )
    parser.add_argument("--prompt", type=int, help="length of every prompt; ragged if not given")
    parser.add_argument("--steps", type=_numbers, default=[15, 9], help="steps per record")
    parser.add_argument("--deterministic", action="store_true", help="the engine with this option")
    parser.add_argument("--budget-s", type=float, default=540.0, help="begin nothing after so long")
    parser.add_argument("--reserve-gib", type=float, default=RESERVE_GIB)
    parser.add_argument("--rehearse", action="store_true", help="tiny shapes on the CPU")
    options = parser.parse_args(arguments)
    options.only = options.only or SECTIONS
    if options.rehearse:
        torch.set_num_threads(1)  # tiny products gain nothing from more
        options.calls, options.live, options.steps = min(options.calls, 9), [3, 1], [7, 3]
    elif not torch.cuda.is_available():
        parser.error("there is no GPU; --rehearse runs on the CPU")
    Benchmark(options).run()
    print(describe(json.loads(options.out.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
