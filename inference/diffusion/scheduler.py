"""Which waiting calls enter the batch: a pure function of lengths and budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Demand:
    """What a call needs from its admission until its last branch is done."""

    prompt_tokens: int
    canvas_tokens: int
    num_canvases: int

    @property
    def num_rows(self) -> int:
        """Cache rows of prompt and canvases together."""
        return self.prompt_tokens + self.canvas_tokens


@dataclass(frozen=True, slots=True)
class Room:
    """What is free in the engine.

    Attributes:
        rows: of the key-value cache.
        canvases: that may be live at the same time.
        prefill_tokens: prompt tokens that the next step may encode.
    """

    rows: int
    canvases: int
    prefill_tokens: int


def admit(waiting: Sequence[Demand], room: Room, *, is_idle: bool) -> int:
    """How many of the `waiting` calls, in their order, enter now.

    Calls enter while there is room for their rows and canvases and the prompts that the next step encodes stay within
    their budget, so that live calls are not kept waiting. When nothing is live (`is_idle`) the first call
    enters whatever its prompt costs. Nobody overtakes: a long call is not starved by short ones.
    """
    rows = canvases = prefill_tokens = 0
    for admitted, demand in enumerate(waiting):
        rows += demand.num_rows
        canvases += demand.num_canvases
        prefill_tokens += demand.prompt_tokens
        may_prefill = prefill_tokens <= room.prefill_tokens or (is_idle and admitted == 0)
        if rows > room.rows or canvases > room.canvases or not may_prefill:
            return admitted
    return len(waiting)
