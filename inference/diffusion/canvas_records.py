"""A canvas as the kernels of the constrained step see it: the records of its slots, and lists of places.

Made once per layout of a record; seating a canvas only moves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.diffusion.automata import TokenAutomaton
from inference.diffusion.conditions import PlacedSlot, place_slots
from inference.diffusion.device_tables import DeviceTables
from inference.diffusion.kernels.slot_records import Field
from inference.diffusion.scaffold import Scaffold
from inference.diffusion.slots import ChoiceTable
from inference.diffusion.table_store import TableStore


@dataclass(frozen=True, slots=True)
class BlockSizes:
    """How a kernel's program takes the slots of a group: all states at once, classes and edges in blocks."""

    states: int
    classes: int
    edges: int
    num_warps: int


AUTOMATA = (
    BlockSizes(16, 32, 32, 1),  # text; one warp, so that nothing waits for other warps
    BlockSizes(64, 32, 32, 4),
    BlockSizes(256, 16, 16, 8),
    BlockSizes(1024, 8, 8, 16),  # token_tables.MAX_STATES
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
        deepest: longest chain of slots that depend on each other.
    """

    slots: NDArray[np.int64]
    group: NDArray[np.int64]
    places: NDArray[np.int64]
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
        entry = tables.entry(slot.span.table)
        slots[number, Field.FIRST] = slot.start
        slots[number, Field.LENGTH] = slot.span.num_tokens
        slots[number, Field.TABLE] = store.number(slot.span.table)
        slots[number, Field.DEPTH] = slot.depth
        slots[number, Field.IS_FINITE] = isinstance(slot.span.table, ChoiceTable)
        slots[number, Field.NUM_STATES] = slot.num_allowed or entry.num_states
        slots[number, Field.NUM_CLASSES] = entry.num_classes
        slots[number, Field.TRANSITIONS] = entry.transitions
        slots[number, Field.ARRIVALS] = entry.arrivals
        slots[number, Field.NUM_ARRIVALS] = entry.num_arrivals
        slots[number, Field.STATE_ROWS] = entry.state_rows
        slots[number, Field.PARENT] = -1
        if slot.parent >= 0:
            parent = parents[slot.parent]
            slots[number, Field.PARENT] = parent.start
            slots[number, Field.PARENT_GROUPS] = tables.entry(parent.span.table).groups
            slots[number, Field.WANTED] = slot.group
        if isinstance(slot.span.table, TokenAutomaton):
            group[number] = automaton_group(entry.num_states)
            block = AUTOMATA[group[number]].states
            slots[number, Field.VECTORS] = slot.span.num_tokens * block
            slots[number, Field.WEIGHTS] = slot.span.num_tokens * entry.num_classes
    return CanvasRecords(slots, group, _places(placed), max((s.depth for s in placed), default=0))


def automaton_group(num_states: int) -> int:
    """The first of AUTOMATA that holds so many states."""
    return next(i for i, sizes in enumerate(AUTOMATA) if num_states <= sizes.states)


def _places(placed: Sequence[PlacedSlot]) -> NDArray[np.int64]:
    runs = [np.arange(slot.start, slot.end) for slot in placed]
    return np.concatenate(runs) if runs else np.zeros(0, dtype=np.int64)
