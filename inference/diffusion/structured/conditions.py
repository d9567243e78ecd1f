"""Slots that depend on the choice of another slot: gates of optional objects, tags of unions.

A slot waits while the slot it depends on is undecided, opens when that holds the right choice, and is closed otherwise:
filled with PAD at once, at no cost.

Shapes: B branches, J finite slots of a branch, V choices of a finite slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inference.diffusion.structured.scaffold import Scaffold, SlotSpan
from inference.diffusion.structured.schema.languages import Choices
from inference.diffusion.structured.slots import ChoiceTable

UNDECIDED, CLOSED = -1, -2
"""States of a finite slot beside the number of its choice."""


@dataclass(frozen=True, slots=True)
class ChoiceState:
    """What finite slots have been decided to; updated in place by commits.

    Attributes:
        choice: `[B, J]` int64, number of the choice, UNDECIDED or CLOSED. J counts the finite slots in document order.
        distribution: `[B, J, V]` float32, probability of every choice when it was made; 0 before.
    """

    choice: Tensor
    distribution: Tensor


@dataclass(frozen=True, slots=True)
class PlacedSlot:
    """A slot in the token buffer: its branch, and its first place.

    Attributes:
        finite: number of the finite slot in the batch, `branch * J + j`; -1 for slots with automata.
        parent: that number of the finite slot that this one depends on; -1 for none.
        group: group of the parent's choices that open this slot.
        depth: number of slots that lead to it.
    """

    branch: int
    start: int
    span: SlotSpan
    num_turns: int
    finite: int
    parent: int
    group: int
    depth: int

    @property
    def end(self) -> int:
        """The place after its last one."""
        return self.start + self.span.num_tokens

    @property
    def num_allowed(self) -> int:
        """How many of its choices, from the first, the transcript allows; 0 for slots with automata."""
        if self.finite < 0:
            return 0
        assert isinstance(self.span.slot.language, Choices)
        return self.span.slot.language.num_allowed(self.num_turns)


def place_slots(
    scaffolds: Sequence[Scaffold], starts: Sequence[int]
) -> tuple[int, list[PlacedSlot]]:
    """J, and the slots of all canvases; canvas `b` begins at place `starts[b]`."""
    finite = [
        [i for i, span in enumerate(scaffold.spans) if isinstance(span.table, ChoiceTable)]
        for scaffold in scaffolds
    ]
    num_finite = max(1, *map(len, finite))
    slots: list[PlacedSlot] = []
    for branch, (scaffold, start) in enumerate(zip(scaffolds, starts, strict=True)):
        number = {index: branch * num_finite + j for j, index in enumerate(finite[branch])}
        first = len(slots)
        for index, span in enumerate(scaffold.spans):
            on = span.slot.condition
            slots.append(
                PlacedSlot(
                    branch=branch,
                    start=start + span.start,
                    span=span,
                    num_turns=scaffold.num_turns,
                    finite=number.get(index, -1),
                    parent=-1 if on is None else number[on.slot],
                    group=-1 if on is None else on.group,
                    depth=0 if on is None else slots[first + on.slot].depth + 1,
                )
            )
    return num_finite, slots


class Conditions:
    """Which slots are open, over all slots of a batch in one order."""

    def __init__(self, slots: Sequence[PlacedSlot], num_finite: int, device: torch.device) -> None:
        """`slots` of the whole batch, with `num_finite` as B * J."""
        finite = {
            slot.finite: slot.span.table.groups
            for slot in slots
            if isinstance(slot.span.table, ChoiceTable)
        }
        width = max(map(len, finite.values()), default=1)
        groups = np.full((num_finite, width), -1, dtype=np.int64)
        for row, of_choice in finite.items():
            groups[row, : len(of_choice)] = of_choice
        self._groups = torch.from_numpy(groups).to(device)
        self._parent = torch.tensor([slot.parent for slot in slots], device=device)
        self._wanted = torch.tensor([slot.group for slot in slots], device=device)
        deepest = max((slot.depth for slot in slots), default=0)
        self._levels = [
            torch.tensor([i for i, slot in enumerate(slots) if slot.depth == depth], device=device)
            for depth in range(1, deepest + 1)
        ]
        self._own = torch.tensor([slot.finite for slot in slots], device=device)

    def is_open(self, choice: Tensor) -> Tensor:
        """Per slot, whether it may be filled: `[num_slots]` bool, of `choice` `[B, J]`."""
        decided = self._of_parent(choice)
        return (self._parent < 0) | (
            (decided >= 0) & (self._group_of_parent(decided) == self._wanted)
        )

    def is_closed(self, choice: Tensor) -> Tensor:
        """Per slot, whether it is to stay empty: `[num_slots]` bool."""
        return ~self.is_open(choice) & (self._of_parent(choice) != UNDECIDED)

    def close(self, choice: Tensor) -> Tensor:
        """Mark the finite slots that have become closed, level by level; `choice` with those marked."""
        for level in self._levels:
            own = self._own[level]
            closes = self.is_closed(choice)[level] & (own >= 0)
            flat = torch.cat([choice.flatten(), choice.new_zeros(1)])
            flat.index_fill_(0, torch.where(closes, own, choice.numel()), CLOSED)
            choice = flat[:-1].view_as(choice)
        return choice

    def _of_parent(self, choice: Tensor) -> Tensor:
        return choice.flatten()[self._parent.clamp_min(0)]

    def _group_of_parent(self, decided: Tensor) -> Tensor:
        return self._groups[self._parent.clamp_min(0), decided.clamp_min(0)]
