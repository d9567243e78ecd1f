"""Labelled calls as token arrays: the prompt, and one filled canvas per branch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.diffusion.prompt import PromptTooLongError, build_prompt
from inference.diffusion.request import BranchSpec
from inference.diffusion.structured.scaffold import Scaffold, compile_scaffold
from inference.diffusion.structured.schema import ValueNotEncodableError
from inference.diffusion.tokenizer import DiffusionTokenizer

MAX_TURNS = 200  # evidence slots hold three digits or `null`, so that no training call cites beyond its slot


class ExampleError(ValueError):
    """A training example lacks a part of the contract: `turns` of role and text, `records` by branch name."""


@dataclass(frozen=True, slots=True)
class EncodedCall:
    """One example, tokenised: int32 arrays; `canvases` are filled and follow the order of the branches."""

    prompt: NDArray[np.int32]
    canvases: tuple[NDArray[np.int32], ...]


def compile_branches(
    tokenizer: DiffusionTokenizer, branches: Sequence[BranchSpec]
) -> tuple[Scaffold, ...]:
    """The scaffolds of all branches. Raises SchemaError for a schema that cannot be decoded."""
    return tuple(
        compile_scaffold(
            dict(branch.schema),
            tokenizer,
            instructions=branch.instructions,
            name=branch.name,
            num_turns=MAX_TURNS,
        )
        for branch in branches
    )


def render_turns(example: Mapping[str, Any]) -> list[str]:
    """The turn lines of an example, as the prompt has them. Raises ExampleError."""
    try:
        return [
            f"{i} {turn['role']}: {turn['text']}"
            for i, turn in enumerate(example["turns"], start=1)
        ]
    except (KeyError, TypeError) as error:
        raise ExampleError(
            f"example {example.get('id', '?')} has no readable turns: {error!r}"
        ) from error


def encode_call(
    example: Mapping[str, Any],
    tokenizer: DiffusionTokenizer,
    scaffolds: Sequence[Scaffold],
    *,
    max_prompt_tokens: int,
) -> EncodedCall | None:
    """Tokenise one example: `{"turns": [{"role", "text"}, …], "records": {branch name: {field: value}}}`.

    Returns:
        None when the call cannot be learned from as it is: a value is longer than its slot, or no turn fits the prompt.

    Raises:
        ExampleError: a part of the example is missing.
    """
    turns = render_turns(example)
    try:
        records = [example["records"][scaffold.name] for scaffold in scaffolds]
    except KeyError as error:
        raise ExampleError(f"example {example.get('id', '?')} has no record {error}") from error
    try:
        canvases = tuple(
            np.asarray(scaffold.encode_value(record), np.int32)
            for scaffold, record in zip(scaffolds, records, strict=True)
        )
        prompt = build_prompt(tokenizer, turns, max_tokens=max_prompt_tokens)
    except (ValueNotEncodableError, PromptTooLongError):
        return None
    return EncodedCall(np.asarray(prompt.token_ids, np.int32), canvases)
