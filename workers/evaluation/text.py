"""The analysis model on text: decode the calls of a set and measure the records."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analytics.evaluation import (
    Bootstrap,
    Estimate,
    EvaluatedCall,
    Measure,
    measure_calls,
    ratio,
    slot_kind,
)
from analytics.scorecards import BUILT_IN
from analytics.simulator import SimulatedCall
from inference.diffusion.request import CallRequest
from workers.evaluation.text_sets import fact_texts, known_services, request_of

BOOTSTRAP_SEED = 1


@dataclass(frozen=True, slots=True)
class SlotEffort:
    """Positions of one slot, padding included, and the step in which the last of them was committed."""

    num_tokens: int
    num_steps: int


@dataclass(frozen=True, slots=True)
class Answer:
    """One record as a decoder gave it; `value` is None when the decoder's text was no record.

    `slots` tells the effort by JSON pointer, where the decoder keeps account of it.
    """

    call_id: str
    name: str
    value: Mapping[str, Any] | None
    num_steps: int
    num_tokens: int
    slots: Mapping[str, SlotEffort] = field(default_factory=dict)


Decode = Callable[[Sequence[CallRequest]], Iterable[Answer]]
"""Fills in the records of all calls, in any order."""


@dataclass(frozen=True, slots=True)
class DecodedSet:
    """A set's calls with their answers: `answers[i]` are those of `calls[i]`, by scorecard."""

    calls: tuple[EvaluatedCall, ...]
    answers: tuple[Mapping[str, Answer], ...]
    seconds: float

    def measures(self) -> dict[str, Measure]:
        """Quality and effort by name; measures of two decodings of one set can be compared in pairs."""
        return measure_calls(self.calls, services=known_services()) | measure_effort(self.answers)


@dataclass(frozen=True, slots=True)
class SetReport:
    """What one set showed. `seconds` is the wall time of the models alone."""

    name: str
    description: str
    num_calls: int
    seconds: float
    estimates: Mapping[str, Estimate]


def decode_set(calls: Sequence[SimulatedCall], decode: Decode) -> DecodedSet:
    """Decode simulated calls. A record that never comes back is a missing record, not an error."""
    requests = [request_of(call) for call in calls]
    started = time.perf_counter()
    answers = collect([call.id for call in calls], decode(requests))
    seconds = time.perf_counter() - started
    evaluated = tuple(
        EvaluatedCall(
            expected=call.records,
            found={name: answer.value for name, answer in found.items()},
            turns=tuple(text for _, text in call.turns),
            facts=fact_texts(call),
        )
        for call, found in zip(calls, answers, strict=True)
    )
    return DecodedSet(evaluated, answers, seconds)


def collect(call_ids: Sequence[str], answers: Iterable[Answer]) -> tuple[dict[str, Answer], ...]:
    """Answers by scorecard, for each call in order."""
    found: dict[str, dict[str, Answer]] = {call_id: {} for call_id in call_ids}
    for answer in answers:
        found[answer.call_id][answer.name] = answer
    return tuple(found.values())


def report_on(name: str, description: str, decoded: DecodedSet) -> SetReport:
    """All measures of a decoded set with their intervals."""
    bootstrap = Bootstrap(len(decoded.calls), seed=BOOTSTRAP_SEED)
    estimates = {key: bootstrap.estimate(measure) for key, measure in decoded.measures().items()}
    return SetReport(name, description, len(decoded.calls), decoded.seconds, estimates)


def measure_effort(answers: Sequence[Mapping[str, Answer]]) -> dict[str, Measure]:
    """Denoising steps, and tokens per forward: positions committed per step of a branch, padding included.

    A call's branches advance together, so its steps are those of the slowest. By slot kind: the positions of the slots
    of that kind per step for which they stayed open.
    """
    ones = [1.0] * len(answers)
    slowest = [max((a.num_steps for a in call.values()), default=0) for call in answers]
    measures = {"effort.steps_per_call": ratio(slowest, ones)}
    for card in BUILT_IN:
        branch = [call[card.name] for call in answers if card.name in call]
        steps = [call[card.name].num_steps if card.name in call else 0 for call in answers]
        present = [float(card.name in call) for call in answers]
        if branch:
            measures[f"effort.steps.{card.name}"] = ratio(steps, present)
    measures["effort.tokens_per_forward"] = ratio(
        [sum(a.num_tokens for a in call.values()) for call in answers],
        [sum(a.num_steps for a in call.values()) for call in answers],
    )
    return measures | _effort_by_kind(answers)


def _effort_by_kind(answers: Sequence[Mapping[str, Answer]]) -> dict[str, Measure]:
    tokens: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(answers))
    steps: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(answers))
    for i_call, call in enumerate(answers):
        for name, answer in call.items():
            for pointer, effort in answer.slots.items():
                kind = slot_kind(name, pointer.removeprefix("/"))
                tokens[kind][i_call] += effort.num_tokens
                steps[kind][i_call] += effort.num_steps
    return {
        f"effort.tokens_per_forward.{kind}": ratio(tokens[kind], steps[kind])
        for kind in sorted(tokens)
    }
