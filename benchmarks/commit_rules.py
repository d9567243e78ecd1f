"""Commit rules on the embedded checkpoint: how good records are, and how many steps they take, on the same calls.

    python -m benchmarks.commit_rules --calls 150 --out benchmarks/results/commit-rules.json

Every rule is compared with one token per step: its records field by field, and the measures of `workers.evaluation`.
Half the calls have known wording and unseen names, half unseen wording with words misheard. Results are kept after each
rule, and a run goes on where the one before was stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from analytics.evaluation import Bootstrap
from analytics.simulator import SimulatedCall
from benchmarks.plot import Axis, Series, draw
from inference.diffusion import DiffusionEngine
from inference.diffusion.checkpoint import load_model
from inference.diffusion.request import CallRequest
from inference.diffusion.rules import CommitRule, Doubt, Factor, Joint, Quota, Threshold
from inference.diffusion.tokenizer import DiffusionTokenizer
from workers.evaluation.text import Answer, DecodedSet, decode_set
from workers.evaluation.text_sets import TEXT_SETS
from workers.fingerprints import model_digest
from workers.settings import CHECKPOINTS

CHECKPOINT = CHECKPOINTS / "dllm"
SETS = ("new_names", "heldout_10")
ONE_TOKEN = Quota(1)
CALLS_TOGETHER = 25
# The wide steps first, so that an early stop leaves curves from end to end.
RULES: tuple[CommitRule, ...] = (
    *(Threshold(0.9), Doubt(0.2), Threshold(0.5), Doubt(1.0), Threshold(0.98), Doubt(0.05)),
    *(Factor(1.0), Joint(0.5), Threshold(0.7), Doubt(0.5), Factor(0.25), Joint(0.0), Joint(0.9)),
    *(Threshold(0.3), Doubt(2.0), Factor(2.0)),
)
MEASURES = ("accuracy.enums", "entity_recall", "exact.summary", "unsupported_claims", "lead.mae")


def decode(calls: Sequence[SimulatedCall], rule: CommitRule) -> DecodedSet:
    """The calls' records under a rule."""
    model = load_model(CHECKPOINT, dtype=torch.float32).eval()
    tokenizer = DiffusionTokenizer.load(CHECKPOINT, model.config)
    engine = DiffusionEngine(model, tokenizer, rule=rule, max_batch_tokens=32_768)

    def answers(requests: Sequence[CallRequest]) -> Iterator[Answer]:
        for start in range(0, len(requests), CALLS_TOGETHER):
            for result in engine.generate(requests[start : start + CALLS_TOGETHER]):
                effort = (result.num_steps, result.num_tokens)
                yield Answer(result.call_id, result.name, result.value, *effort)

    return decode_set(calls, answers)


def row(rule: CommitRule, decoded: DecodedSet, plain: DecodedSet) -> dict[str, Any]:
    """Effort and quality of a rule, and its differences from one token per step."""
    bootstrap = Bootstrap(len(decoded.calls), seed=1)
    measures, expected = decoded.measures(), plain.measures()
    same, total = fields_alike(decoded.answers, plain.answers)
    return {
        "rule": repr(rule),
        "seconds": decoded.seconds,
        "fields_as_one_by_one": same / total,
        "fields_differing": total - same,
        "steps_per_call": bootstrap.estimate(measures["effort.steps_per_call"]).value,
        "tokens_per_forward": bootstrap.estimate(measures["effort.tokens_per_forward"]).value,
        "measures": {name: _estimate(bootstrap.estimate(measures[name])) for name in MEASURES},
        "differences": {
            name: _estimate(bootstrap.difference(measures[name], expected[name]))
            for name in MEASURES
        },
    }


Answers = Sequence[Any]


def fields_alike(found: Answers, expected: Answers) -> tuple[int, int]:
    """How many fields of all records are the same, and how many there are."""
    pairs = [
        (answer.value.get(field), value)
        for call, plain in zip(found, expected, strict=True)
        for name, answer in call.items()
        for field, value in _value(plain[name]).items()
    ]
    return sum(a == b for a, b in pairs), len(pairs)


def _value(answer: Answer) -> dict[str, Any]:
    return dict(answer.value or {})


def _estimate(estimate: Any) -> list[float]:
    return [estimate.value, estimate.low, estimate.high]


def drawing(report: dict[str, Any]) -> str:
    """Fields that differ from one token per step, against steps per call, a line for each kind of rule."""
    lines: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for found in report["rows"][1:]:
        kind, value = found["rule"].removesuffix(")").split("(value=")
        differing = 100 * (1 - found["fields_as_one_by_one"])
        lines[kind].append((found["steps_per_call"], differing, value))
    series = [Series(kind.lower(), sorted(points)) for kind, points in lines.items()]
    title = f"Commit rules on the embedded checkpoint, {report['num_calls']} calls"
    up = Axis("fields unlike one token per step, %")
    return draw(title, series, across=Axis("steps per call"), up=up)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--calls", type=int, default=150)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--out", type=Path, required=True)
    chosen = options.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    sets = [one for one in TEXT_SETS if one.name in SETS]
    calls = [call for one in sets for call in one.calls(chosen.calls // len(sets))]
    report: dict[str, Any] = {
        "weights": model_digest(str(CHECKPOINT)),
        "sets": SETS,
        "num_calls": len(calls),
        "rows": [],
    }
    if chosen.out.exists():
        report = json.loads(chosen.out.read_text())
    plain = decode(calls, ONE_TOKEN)
    for rule in (ONE_TOKEN, *RULES):
        if repr(rule) in [known["rule"] for known in report["rows"]]:
            continue
        begun = time.perf_counter()
        decoded = plain if rule is ONE_TOKEN else decode(calls, rule)
        report["rows"].append(row(rule, decoded, plain))
        chosen.out.write_text(json.dumps(report, indent=1) + "\n")
        print(f"{time.perf_counter() - begun:.0f} s", report["rows"][-1], flush=True)
    chosen.out.with_suffix(".svg").write_text(drawing(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
