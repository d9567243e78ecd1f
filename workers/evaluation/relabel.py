"""A team's own rule from few calls: a LoRA fine-tune on relabelled calls, and what it does to every field.

`python -m workers.evaluation.relabel CHECKPOINT WORK` labels simulated calls by `team_rule`, trains an
adapter on them with `aftercall train dllm`, merges it, and compares both checkpoints on the same new calls: how often
they follow the new rule, and how often the other fields are right. The report is `WORK/report.json`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from analytics.evaluation import Bootstrap, Measure, ratio
from analytics.simulator import SimulatedCall, simulate
from inference.training.dllm.lora import merge_checkpoint
from workers.cli import train_dllm
from workers.evaluation.decoders import ReferenceDecoder
from workers.evaluation.text import BOOTSTRAP_SEED, DecodedSet, decode_set
from workers.evaluation.text_sets import EVALUATION_SEED, TEXT_SETS

RULE: Final = "overall is mixed when the caller ends in another mood than they began in, else the mood of the end"
LABELLED_SEED: Final = 800_001
THRESHOLD: Final = 0.9
_SPECIAL: Final = frozenset({"unknown", "not_applicable"})
_NEW_NAMES: Final = next(text_set for text_set in TEXT_SETS if text_set.name == "new_names")


def team_rule(records: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The records with the overall mood by `RULE`. The built-in rule asks for both moods anywhere in the call."""
    sentiment = dict(records["sentiment"])
    if sentiment["start"] not in _SPECIAL:
        changed = sentiment["start"] != sentiment["end"]
        sentiment["overall"] = "mixed" if changed else sentiment["end"]
        if sentiment["overall"] == "neutral":
            sentiment["overall_turn"] = None
    return {name: dict(record) for name, record in records.items()} | {"sentiment": sentiment}


def write_labelled_calls(path: Path, count: int) -> None:
    """Calls labelled by the team's rule, as `aftercall train dllm --data` reads them."""
    with path.open("w", encoding="utf-8") as lines:
        for call in islice(simulate(LABELLED_SEED, names="listed"), count):
            example = call.to_json()
            example["records"] = team_rule(call.records)
            lines.write(json.dumps(example, ensure_ascii=False) + "\n")


def relabelled(calls: Sequence[SimulatedCall]) -> list[SimulatedCall]:
    """The calls with the records that the team's rule gives them."""
    return [replace(call, records=team_rule(call.records)) for call in calls]


def compare(
    calls: Sequence[SimulatedCall], before: DecodedSet, after: DecodedSet
) -> dict[str, dict[str, Any]]:
    """Both checkpoints by the team's labels: each measure before, after, and the paired difference."""
    moved = [
        float(
            team_rule(call.records)["sentiment"]["overall"] != call.records["sentiment"]["overall"]
        )
        for call in calls
    ]
    bootstrap = Bootstrap(len(calls), seed=BOOTSTRAP_SEED)
    measures = [_measures(decoded, moved) for decoded in (before, after)]
    return {
        name: {
            "before": asdict(bootstrap.estimate(measures[0][name])),
            "after": asdict(bootstrap.estimate(measures[1][name])),
            "difference": asdict(bootstrap.difference(measures[1][name], measures[0][name])),
        }
        for name in measures[0]
    }


def _measures(decoded: DecodedSet, moved: Sequence[float]) -> dict[str, Measure]:
    kept = ("accuracy.", "entity_recall", "exact.", "lead.tier_accuracy")
    measures = {
        name: measure for name, measure in decoded.measures().items() if name.startswith(kept)
    }
    right = [
        float(
            (call.found["sentiment"] or {}).get("overall") == call.expected["sentiment"]["overall"]
        )
        for call in decoded.calls
    ]
    both = [r * m for r, m in zip(right, moved, strict=True)]
    return measures | {"moved_labels_followed": ratio(both, moved)}


def main(argv: Sequence[str] | None = None) -> None:
    """Label, train, merge, compare, write the report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("checkpoint", help="checkpoint directory or hub id")
    options.add_argument(
        "work", type=Path, help="where labelled calls, adapter and merged checkpoint go"
    )
    options.add_argument("--calls", type=int, default=200, help="labelled by the team's rule")
    options.add_argument("--evaluation-calls", type=int, default=300)
    options.add_argument("--steps", type=int, default=120)
    options.add_argument("--rank", type=int, default=16)
    options.add_argument("--learning-rate", type=float, default=2e-3)
    chosen = options.parse_args(argv)
    work: Path = chosen.work
    work.mkdir(parents=True, exist_ok=True)
    write_labelled_calls(work / "calls.jsonl", chosen.calls)
    settings = (
        f"--steps {chosen.steps} --lora-rank {chosen.rank} --other-lr {chosen.learning_rate} --warmup-steps 20 "
        "--rows 1 --row-length 1536 --mask-draws 1 --workers 0 --evaluation-calls 0"
    )
    places = ["--data", work / "calls.jsonl", "--from", chosen.checkpoint]
    places += ["--out", work / "adapter", "--state", work / "state"]
    started = time.perf_counter()
    train_dllm.main([*map(str, places), *settings.split()])
    seconds = time.perf_counter() - started
    merge_checkpoint(chosen.checkpoint, work / "adapter", work / "merged")
    calls = _NEW_NAMES.calls(chosen.evaluation_calls, EVALUATION_SEED)
    by_rule = relabelled(calls)
    before, after = (
        decode_set(by_rule, ReferenceDecoder(checkpoint).at(THRESHOLD))
        for checkpoint in (chosen.checkpoint, work / "merged")
    )
    report = {
        "rule": RULE,
        "labelled_calls": chosen.calls,
        "evaluation_calls": len(calls),
        "training": {"settings": settings, "seconds": round(seconds, 1)},
        "measures": compare(calls, before, after),
    }
    (work / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
