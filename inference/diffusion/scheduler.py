"""Which waiting calls enter the batch: a pure function of lengths and budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Demand:
    """Cache rows that a call needs from its admission until its last branch is done."""

    prompt_tokens: int
    canvas_tokens: int

    @property
    def num_rows(self) -> int:
        """Rows of prompt and canvases together."""
        return self.prompt_tokens + self.canvas_tokens


def admit(waiting: Sequence[Demand], *, free_rows: int, prefill_budget: int, num_live: int) -> int:
    """How many of the `waiting` calls, in their order, enter now.

    Calls enter while their rows fit and the prompts encoded before the next denoising step stay within
    `prefill_budget` tokens, so that live calls are not kept waiting. When nothing is live the first call enters
    whatever its prompt costs. Nobody overtakes: a long call is not starved by short ones.

    Args:
        waiting: demands, first come first.
        free_rows: rows of the cache that are free.
        prefill_budget: prompt tokens that may be encoded in one step.
        num_live: calls in the batch already.
    """
    admitted = prefill_tokens = 0
    for demand in waiting:
        is_first = num_live == 0 and admitted == 0
        prefill_tokens += demand.prompt_tokens
        if demand.num_rows > free_rows or (prefill_tokens > prefill_budget and not is_first):
            break
        free_rows -= demand.num_rows
        admitted += 1
    return admitted
