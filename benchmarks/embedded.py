"""The embedded checkpoint on this machine's CPU: the engine beside two plain loops, on the same calls, in one run.

The published loop takes one call and one record at a time and computes prompt and canvas anew in every step, as the
published code does. The cached loop keeps the prompt's keys and values for the steps of a record. The engine packs
calls, encodes each prompt once for all records and computes open positions only. All commit by the same rule; with this
checkpoint all three are exact: it was trained with prompts that do not see their canvas.

The systems take turns, call list by call list: a shared processor may be half as fast a minute later.

    python -m benchmarks.embedded --calls 24 --rounds 3 --out embedded.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from analytics.scorecards import BUILT_IN
from analytics.simulator import simulate
from inference.diffusion import BranchSpec, CallRequest, DiffusionEngine
from inference.diffusion.canvas_forward import PromptCache
from inference.diffusion.checkpoint import load_model
from inference.diffusion.prompt import build_prompt
from inference.diffusion.reference import decode_canvases
from inference.diffusion.structured.scaffold import compile_scaffold
from inference.diffusion.tokenizer import DiffusionTokenizer
from workers.settings import CHECKPOINTS

CHECKPOINT = CHECKPOINTS / "dllm"
SEED = 880_001
# The constraint may change a value for the better or worse; more than this is a broken engine, not a faster one.
TOLERATED_LOSS = 0.02


@dataclass(frozen=True, slots=True)
class Measured:
    """One system, round by round, and how often a field had the value that the simulator planted."""

    seconds: list[float]
    cpu_seconds: list[float]  # of this process
    calls_per_minute: float
    field_accuracy: float

    def slower_than(self, other: Measured) -> float:
        """How many times as long it takes on the clock, in the median round."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return statistics.median(own / others for own, others in pairs)


Records = dict[tuple[str, str], dict[str, Any]]


System = Callable[[Sequence[CallRequest]], Records]


def plain_loop(prompt_cache: PromptCache) -> System:
    """Record after record through the reference decoder."""
    model = load_model(CHECKPOINT, dtype=torch.float32).eval()
    tokenizer = DiffusionTokenizer.load(CHECKPOINT, model.config)

    def record(request: CallRequest, branch: BranchSpec) -> dict[str, Any]:
        scaffold = compile_scaffold(
            branch.schema,
            tokenizer,
            instructions=branch.instructions,
            name=branch.name,
            num_turns=len(request.turns),
        )
        prompt = build_prompt(tokenizer, request.turns, max_tokens=1_536)
        (canvas,) = decode_canvases(
            model, tokenizer, [prompt.token_ids], scaffold, prompt_cache=prompt_cache
        )
        try:
            return scaffold.decode_value(canvas.tokens)
        except ValueError:  # unconstrained text may be no record; it counts as wrong
            return {}

    def run(requests: Sequence[CallRequest]) -> Records:
        return {(r.call_id, b.name): record(r, b) for r in requests for b in r.branches}

    return run


def engine(*, is_narrow: bool | None) -> System:
    """All records through the engine."""
    loaded = DiffusionEngine.load(CHECKPOINT, device="cpu", is_narrow=is_narrow)

    def run(requests: Sequence[CallRequest]) -> Records:
        return {(r.call_id, r.name): r.value for r in loaded.generate(requests)}

    return run


def measure(
    systems: dict[str, System], rounds: Sequence[Sequence[CallRequest]], truth: Records
) -> dict[str, Measured]:
    """Run the systems in turns."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in systems}
    found: dict[str, Records] = {name: {} for name in systems}
    for system in systems.values():
        system(rounds[0][:2])  # schema compilation, allocator
    for requests in rounds:
        for name, system in systems.items():
            started, cpu_started = time.perf_counter(), time.process_time()
            found[name] |= system(requests)
            ended, cpu_ended = time.perf_counter(), time.process_time()
            times[name].append((ended - started, cpu_ended - cpu_started))
    num_calls = sum(map(len, rounds))
    return {
        name: Measured(
            [seconds for seconds, _ in of_rounds],
            [cpu_seconds for _, cpu_seconds in of_rounds],
            60 * num_calls / sum(seconds for seconds, _ in of_rounds),
            accuracy(found[name], truth),
        )
        for name, of_rounds in times.items()
    }


def describe(measured: dict[str, Measured], num_calls: int) -> str:
    """A table, and how many times faster the engine is than each loop."""
    lines = [f"{'':16}{'calls/min':>12}{'CPU s per call':>16}{'fields right':>14}"]
    engine = measured["engine"]
    for name, result in measured.items():
        line = (
            f"{name:16}{result.calls_per_minute:12.1f}{sum(result.cpu_seconds) / num_calls:16.2f}"
        )
        line += f"{result.field_accuracy:14.3f}"
        if result is not engine:
            line += f"   engine {result.slower_than(engine):.2f} times as fast"
        lines.append(line)
    return "\n".join(lines)


def accuracy(found: Records, truth: Records) -> float:
    """Share of fields with the planted value."""
    fields = [found[key].get(name) == value for key in truth for name, value in truth[key].items()]
    return sum(fields) / len(fields)


def main(argv: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--calls", type=int, default=24, help="of a round")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--float32", action="store_true", help="the engine as without AMX")
    options.add_argument("--out", type=Path)
    arguments = options.parse_args(argv)
    torch.set_num_threads(arguments.threads)

    num_calls = arguments.calls * arguments.rounds
    calls = [call.to_json() for call in islice(simulate(SEED, names="heldout"), num_calls)]
    branches = tuple(BranchSpec(card.name, card.instructions, card.schema) for card in BUILT_IN)
    requests = [
        CallRequest(
            str(i),
            tuple(f"{n} {t['role']}: {t['text']}" for n, t in enumerate(call["turns"], start=1)),
            branches,
        )
        for i, call in enumerate(calls)
    ]
    truth = {
        (str(i), card.name): call["records"][card.name]
        for i, call in enumerate(calls)
        for card in BUILT_IN
    }
    rounds = [requests[i : i + arguments.calls] for i in range(0, num_calls, arguments.calls)]
    systems = {
        "published loop": plain_loop("off"),
        "cached loop": plain_loop("frozen"),
        "engine": engine(is_narrow=False if arguments.float32 else None),
    }
    measured = measure(systems, rounds, truth)
    worst = min(result.field_accuracy for name, result in measured.items() if name != "engine")
    if measured["engine"].field_accuracy < worst - TOLERATED_LOSS:
        sys.exit(f"no report: the engine's records are wrong: {measured}")
    print(describe(measured, len(calls)))
    if arguments.out is not None:
        report = {name: asdict(result) for name, result in measured.items()}
        settings = {
            "rounds": arguments.rounds,
            "calls_per_round": arguments.calls,
            "threads": arguments.threads,
            "engine_multiplies_in": "float32"
            if arguments.float32
            else "bfloat16 where there is AMX",
            "torch": torch.__version__,
        }
        arguments.out.write_text(json.dumps({**settings, **report}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
