"""Decoders that answer with the truth, but for the mistakes planted in them; a recogniser that only measures."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from analytics.simulator import SimulatedCall
from inference.diffusion.request import CallRequest
from inference.speech import Utterance
from workers.evaluation.speech import Transcribe
from workers.evaluation.text import Answer, Decode, SlotEffort

Mistakes = Mapping[str, Mapping[str, Any] | None]
"""By scorecard: fields to change; None answers with no record."""


def planted(
    calls: Sequence[SimulatedCall],
    mistakes: Mapping[int, Mistakes] | None = None,
    *,
    num_steps: int = 4,
    num_tokens: int = 100,
    slots: Mapping[str, SlotEffort] | None = None,
) -> Decode:
    """Answers for these calls only, last call first, with mistakes by the call's index."""
    index = {call.id: i for i, call in enumerate(calls)}

    def decode(requests: Sequence[CallRequest]) -> Iterator[Answer]:
        for request in reversed(requests):
            i_call = index[request.call_id]
            wrong = (mistakes or {}).get(i_call, {})
            for branch in request.branches:
                change = wrong.get(branch.name, {})
                truth = calls[i_call].records[branch.name]
                value = None if change is None else {**truth, **change}
                yield Answer(
                    request.call_id, branch.name, value, num_steps, num_tokens, slots or {}
                )

    return decode


def load_loudness() -> Transcribe:
    """A recogniser that writes how loud the first channel is: tells one recording from another."""

    def transcribe(audio: np.ndarray) -> list[Utterance]:
        return [Utterance(0, 0, 1_000, f"{audio[0].std():.9f}", 0.5)]

    return transcribe
