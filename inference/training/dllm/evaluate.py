"""Field accuracy during training: the plain decoder on labelled calls, slot by slot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from inference.diffusion.model import LladaModel
from inference.diffusion.reference import decode_canvases, slot_matches
from inference.diffusion.structured.scaffold import Scaffold
from inference.diffusion.tokenizer import DiffusionTokenizer
from inference.training.dllm.canvas import EncodedCall, encode_call

MAX_STEPS = 40  # bounds the time that an untrained model takes; a trained one needs 4 to 12
DECODE_BATCH = 64  # calls decoded together: 64 canvases of 250 positions over 500-token prompts take under 2 GiB


def encode_calls(
    examples: Sequence[Mapping[str, Any]],
    tokenizer: DiffusionTokenizer,
    scaffolds: Sequence[Scaffold],
    *,
    max_prompt_tokens: int,
) -> list[EncodedCall]:
    """Tokenise evaluation examples, sorted by prompt length; those that do not fit their slots are left out."""
    calls = (
        encode_call(example, tokenizer, scaffolds, max_prompt_tokens=max_prompt_tokens)
        for example in examples
    )
    return sorted((call for call in calls if call is not None), key=lambda call: len(call.prompt))


def field_accuracy(
    model: LladaModel,
    tokenizer: DiffusionTokenizer,
    scaffolds: Sequence[Scaffold],
    calls: Sequence[EncodedCall],
    *,
    dtype: torch.dtype | None = None,
) -> dict[str, float]:
    """Share of calls whose slot is exactly right, by `"branch/field"`; mean number of steps by `"branch#steps"`."""
    totals: defaultdict[str, float] = defaultdict(float)
    for start in range(0, len(calls), DECODE_BATCH):
        part = calls[start : start + DECODE_BATCH]
        for i_branch, scaffold in enumerate(scaffolds):
            decoded = decode_canvases(
                model,
                tokenizer,
                [call.prompt.tolist() for call in part],
                scaffold,
                max_steps=MAX_STEPS,
                dtype=dtype,
            )
            for call, canvas in zip(part, decoded, strict=True):
                totals[f"{scaffold.name}#steps"] += canvas.num_steps
                expected = call.canvases[i_branch].tolist()
                for pointer, right in slot_matches(scaffold, canvas.tokens, expected):
                    totals[f"{scaffold.name}{pointer}"] += right
    return {name: total / max(len(calls), 1) for name, total in totals.items()}
