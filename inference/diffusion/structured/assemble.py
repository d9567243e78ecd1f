"""From a filled canvas to the record: slot texts to values, and how sure each was. Nothing is parsed as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from inference.diffusion.structured.scaffold import Scaffold, SlotSpan
from inference.diffusion.structured.schema.languages import Choices
from inference.diffusion.structured.schema.values import Absent, Scalar
from inference.diffusion.structured.slots import ChoiceTable

MIN_ODDS = 0.005  # what rounds to a per cent


@dataclass(frozen=True, slots=True)
class Odds:
    """The probability of one value of a finite field; `value` is None for null and for a value left out."""

    value: Scalar
    probability: float


@dataclass(frozen=True, slots=True)
class AssembledRecord:
    """A record and how sure the model was of it, by JSON pointer.

    Attributes:
        value: JSON values; valid under the schema.
        confidence: for every field that was decoded, the smallest constrained probability among the tokens that say it;
            for a field of finite values, the probability of its value.
        odds: for fields of finite values, the probability of every value above `MIN_ODDS`, most probable first.
    """

    value: dict[str, Any]
    confidence: dict[str, float]
    odds: dict[str, tuple[Odds, ...]]


def assemble(
    scaffold: Scaffold,
    tokens: Sequence[int],
    confidence: Sequence[float],
    distribution: Sequence[Sequence[float]],
) -> AssembledRecord:
    """Read the record off a canvas without masked positions.

    Args:
        scaffold: of the canvas.
        tokens: `[num_tokens]`.
        confidence: `[num_tokens]`, of every slot position when it was committed.
        distribution: per finite slot in document order, the probability of every choice (`ChoiceState.distribution`).

    Raises:
        ValueError: a slot is masked or outside its language, which constrained decoding never leaves behind.
    """
    reading = scaffold.read_tokens(tokens)
    assert isinstance(reading.value, dict)
    sure: dict[str, float] = {}
    odds: dict[str, tuple[Odds, ...]] = {}
    finite = [i for i, span in enumerate(scaffold.spans) if isinstance(span.table, ChoiceTable)]
    for pointer, index in reading.slots.items():
        span = scaffold.spans[index]
        sure[pointer] = _least(span, tokens, confidence, scaffold.tokenizer.pad_token_id)
        if index in finite:
            odds[pointer] = _odds(span, distribution[finite.index(index)])
    return AssembledRecord(reading.value, sure, odds)


def _least(
    span: SlotSpan, tokens: Sequence[int], confidence: Sequence[float], pad_token_id: int
) -> float:
    """Least confidence up to the first PAD: what comes after it was not decided."""
    lowest = 1.0
    for place in range(span.start, span.start + span.num_tokens):
        lowest = min(lowest, confidence[place])
        if tokens[place] == pad_token_id:
            break
    return lowest


def _odds(span: SlotSpan, distribution: Sequence[float]) -> tuple[Odds, ...]:
    language = span.slot.language
    assert isinstance(language, Choices)
    pairs = zip(language.values, distribution, strict=False)
    likely = [
        Odds(None if isinstance(value, Absent) else value, probability)
        for value, probability in pairs
        if probability >= MIN_ODDS
    ]
    return tuple(sorted(likely, key=lambda odds: -odds.probability))
