"""Quality against steps: one set decoded at several commit thresholds, each compared with one token per step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from analytics.evaluation import Bootstrap, Estimate
from analytics.simulator import SimulatedCall
from workers.evaluation.text import BOOTSTRAP_SEED, Decode, decode_set

THRESHOLDS: Final = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
ONE_TOKEN_PER_STEP: Final = None

COMPARED: Final = (
    "accuracy.enums",
    "entity_recall",
    "exact.summary",
    "unsupported_claims",
    "lead.mae",
    "lead.tier_accuracy",
)
"""Measures whose difference from one token per step is told."""

DecoderFor = Callable[[float | None], Decode]
"""A decoder for a commit threshold; None commits one token per step."""


@dataclass(frozen=True, slots=True)
class StepsRow:
    """One way of committing. `differences` are against one token per step, on the same calls; empty for itself."""

    threshold: float | None
    num_calls: int
    seconds: float
    estimates: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]


def quality_against_steps(
    calls: Sequence[SimulatedCall],
    decoder_for: DecoderFor,
    thresholds: Sequence[float] = THRESHOLDS,
) -> list[StepsRow]:
    """One row per threshold in their order, and last the row of one token per step."""
    bootstrap = Bootstrap(len(calls), seed=BOOTSTRAP_SEED)
    baseline = decode_set(calls, decoder_for(ONE_TOKEN_PER_STEP))
    baseline_measures = baseline.measures()
    rows = []
    for threshold in (*thresholds, ONE_TOKEN_PER_STEP):
        is_baseline = threshold is ONE_TOKEN_PER_STEP
        decoded = baseline if is_baseline else decode_set(calls, decoder_for(threshold))
        measures = baseline_measures if is_baseline else decoded.measures()
        shown = [name for name in measures if name in COMPARED or name.startswith("effort.")]
        differences = {
            name: bootstrap.difference(measures[name], baseline_measures[name])
            for name in COMPARED
            if not is_baseline
        }
        estimates = {name: bootstrap.estimate(measures[name]) for name in shown}
        rows.append(StepsRow(threshold, len(calls), decoded.seconds, estimates, differences))
    return rows
