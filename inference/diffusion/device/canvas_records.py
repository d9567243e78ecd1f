"""A canvas as the kernels of the constrained step see it: the records of its slots, and lists of places.

Made once per layout of a record; seating a canvas only moves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.diffusion.device.tables import MAX_DENSE_STATES, DeviceTables
from inference.diffusion.kernels.slot_records import Field
from inference.diffusion.structured.automata import TokenAutomaton
from inference.diffusion.structured.conditions import PlacedSlot, place_slots
from inference.diffusion.structured.scaffold import Scaffold
from inference.diffusion.structured.table_store import TableStore


@dataclass(frozen=True, slots=True)
class BlockSizes:
    """How programs take the slots of a group: all states at once, the rest in blocks."""

    states: int
    links: int
    classes: int
    bundles: int
    num_warps: int

    @property
    def is_dense(self) -> bool:
        """Whether links are matrices."""
        return self.states <= MAX_DENSE_STATES


AUTOMATA = (
    BlockSizes(16, 16, classes=32, bundles=32, num_warps=1),  # text; a warp waits for no other
    BlockSizes(64, 64, classes=32, bundles=128, num_warps=8),
    BlockSizes(256, 16, classes=16, bundles=256, num_warps=8),
    BlockSizes(1024, 4, classes=4, bundles=256, num_warps=16),  # token_tables.MAX_STATES
)
"""Groups of slots with automata, by their number of states."""

CHOICES = len(AUTOMATA)
"""The group of finite slots."""


@dataclass(frozen=True, slots=True)
class CanvasRecords:
    """A canvas from place 0.

    Attributes:
        slots: `[num_slots, len(Field)]` int64, in document order; offsets of scratch are sizes here.
        group: `[num_slots]`, of AUTOMATA, or CHOICES.
        places: the places of all slots, ascending.
        num_dependents: slots that depend on another.
        deepest: longest chain of those.
    """

    slots: NDArray[np.int64]
    group: NDArray[np.int64]
    places: NDArray[np.int64]
    num_dependents: int
    deepest: int

    def seated(self, start: int) -> NDArray[np.int64]:
        """The records with the canvas at place `start`."""
        slots = self.slots.copy()
        slots[:, Field.FIRST] += start
        slots[:, Field.PARENT] += np.where(slots[:, Field.PARENT] >= 0, start, 0)
        return slots


def canvas_records(scaffold: Scaffold, tables: DeviceTables, store: TableStore) -> CanvasRecords:
    """The records of `scaffold`, whose tables are in `tables` and `store`."""
    _, placed = place_slots([scaffold], [0])
    parents = {slot.finite: slot for slot in placed if slot.finite >= 0}
    slots = np.zeros((len(placed), len(Field)), dtype=np.int64)
    group = np.full(len(placed), CHOICES)
    for number, slot in enumerate(placed):
        record, num_tokens = tables.record(slot.span.table), slot.span.num_tokens
        record[Field.FIRST], record[Field.LENGTH] = slot.start, num_tokens
        record[Field.TABLE] = store.number(slot.span.table)
        record[Field.NUM_ALLOWED] = slot.num_allowed
        record[Field.DEPTH] = slot.depth
        record[Field.PARENT] = -1
        if slot.parent >= 0:
            parent = parents[slot.parent]
            record[Field.PARENT] = parent.start
            record[Field.PARENT_GROUPS] = tables.groups(parent.span.table)
            record[Field.WANTED] = slot.group
        if isinstance(slot.span.table, TokenAutomaton):
            group[number] = automaton_group(int(record[Field.NUM_STATES]))
            record[Field.VECTORS] = (2 * num_tokens + 1) * AUTOMATA[group[number]].states
            record[Field.SUMS] = num_tokens * record[Field.NUM_BUNDLES]
            record[Field.WEIGHTS] = num_tokens * record[Field.NUM_CLASSES]
        slots[number] = record
    return CanvasRecords(
        slots,
        group,
        _places(placed),
        num_dependents=sum(slot.parent >= 0 for slot in placed),
        deepest=max((slot.depth for slot in placed), default=0),
    )


def automaton_group(num_states: int) -> int:
    """The first of AUTOMATA that holds so many states."""
    return next(i for i, sizes in enumerate(AUTOMATA) if num_states <= sizes.states)


def _places(placed: Sequence[PlacedSlot]) -> NDArray[np.int64]:
    runs = [np.arange(slot.start, slot.end) for slot in placed]
    return np.concatenate(runs) if runs else np.zeros(0, dtype=np.int64)
