"""The parts of an evaluation, one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from workers.evaluation.decoders import Decoder
from workers.evaluation.steps import StepsRow, quality_against_steps
from workers.evaluation.text import SetReport, decode_set, report_on
from workers.evaluation.text_sets import TEXT_SETS, TextSet

Tell = Callable[[str], None]
"""Hears what is about to be measured."""

STEPS_SET = next(text_set for text_set in TEXT_SETS if text_set.name == "new_names")


def run_text(
    decoder: Decoder,
    *,
    num_calls: int,
    threshold: float,
    seed: int,
    tell: Tell,
    text_sets: Sequence[TextSet] = TEXT_SETS,
) -> list[SetReport]:
    """The analysis model on every text set."""
    decode = decoder.at(threshold)
    reports = []
    for text_set in text_sets:
        tell(f"{text_set.name}: {num_calls:,} calls, {text_set.description}")
        decoded = decode_set(text_set.calls(num_calls, seed), decode)
        reports.append(report_on(text_set.name, text_set.description, decoded))
    return reports


def run_steps(decoder: Decoder, *, num_calls: int, seed: int, tell: Tell) -> list[StepsRow]:
    """Quality against steps on one text set."""
    tell(f"steps: {num_calls:,} calls of {STEPS_SET.name} by commit threshold, and token by token")
    return quality_against_steps(STEPS_SET.calls(num_calls, seed), decoder.at)
