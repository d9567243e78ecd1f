"""The prompt of a call: one fixed line, then the numbered turns, cut in the middle when they do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inference.diffusion.tokenizer import DiffusionTokenizer

PROMPT_VERSION = 1
PREAMBLE = "Read this call and fill in the records. Turns are numbered."


class PromptTooLongError(ValueError):
    """Not even one turn fits beside the fixed part of the prompt."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """An encoded prompt.

    `turns_kept` is None when every turn is in it, else how many first and how many last turns were kept.
    """

    token_ids: tuple[int, ...]
    turns_kept: tuple[int, int] | None


def build_prompt(tokenizer: DiffusionTokenizer, turns: Sequence[str], *, max_tokens: int) -> Prompt:
    """Encode rendered turns (`"3 caller: …"`), dropping turns from the middle until the prompt fits.

    The first turns tell who calls and why, the last ones what came of it, so both ends are kept, at about equal
    length in tokens. Turns keep their numbers. Line breaks inside a turn become spaces: a turn cannot forge another.

    Raises:
        PromptTooLongError: `max_tokens` leaves no room for a single turn.
    """
    lines = [" ".join(turn.splitlines()) for turn in turns]
    token_ids = _encode(tokenizer, lines)
    if len(token_ids) <= max_tokens:
        return Prompt(tuple(token_ids), None)
    # Lines are measured apart and the sum is checked on the whole: a tokenizer may merge across a line break.
    costs = [len(line_ids) for line_ids in tokenizer.encode_batch(["\n" + line for line in lines])]
    budget = max_tokens - len(_encode(tokenizer, []))
    while budget > 0:
        head, tail = _split(costs, budget)
        if head + tail == 0:
            break
        token_ids = _encode(tokenizer, [*lines[:head], *lines[len(lines) - tail :]])
        if len(token_ids) <= max_tokens:
            return Prompt(tuple(token_ids), (head, tail))
        budget -= len(token_ids) - max_tokens
    raise PromptTooLongError(f"no turn fits in a prompt of {max_tokens} tokens")


def _encode(tokenizer: DiffusionTokenizer, lines: Sequence[str]) -> list[int]:
    return tokenizer.encode_user_message("\n".join([PREAMBLE, *lines]))


def _split(costs: Sequence[int], budget: int) -> tuple[int, int]:
    """How many first and last turns to keep within `budget` tokens, growing the end that has fewer tokens so far."""
    head = tail = head_tokens = tail_tokens = 0
    while head + tail < len(costs):
        grow_head = head_tokens <= tail_tokens
        cost = costs[head] if grow_head else costs[len(costs) - 1 - tail]
        if head_tokens + tail_tokens + cost > budget:
            break
        if grow_head:
            head, head_tokens = head + 1, head_tokens + cost
        else:
            tail, tail_tokens = tail + 1, tail_tokens + cost
    return head, tail
