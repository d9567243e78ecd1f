"""Where the slots of all seated canvases lie: the lists that kernels read, and how many programs that makes."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

import numpy as np
import triton
from numpy.typing import NDArray

from inference.diffusion.canvas_records import CHOICES, CanvasRecords
from inference.diffusion.kernels.slot_canvases import CanvasField
from inference.diffusion.kernels.slot_records import Field
from inference.diffusion.table_store import size_class

CANVASES = CHOICES + 1
"""The group of programs that take a canvas each; the groups before it take a slot each."""

FEWEST_PLACES = 16


@dataclass(frozen=True, slots=True)
class Seat:
    """A canvas from place `start` of the token buffer."""

    records: CanvasRecords
    start: int


@dataclass(frozen=True, slots=True)
class Launch:
    """The programs for a group, some of them idle, and a power of two that holds the places of each."""

    num_programs: int
    places: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A layout.

    Attributes:
        lists: integers by name. `ranges`: first record and number of records per group. `slots`, `canvases`: records.
            `dependents`: slots that depend on others, `places`: places of slots, both canvas by canvas.
            `table_of_place`: per place of the token buffer. `is_fresh_seat`, `is_fresh_place`: 1 for those of canvases
            that are new.
        launches: per group that has records.
        num_vectors: size of the scratch for weights of states.
        num_weights: size of the scratch for weights of classes.
    """

    lists: dict[str, NDArray[np.int64]]
    launches: dict[int, Launch]
    num_vectors: int
    num_weights: int


def lay_out(
    seats: Mapping[int, Seat], fresh: Set[int], *, num_places: int, num_seats: int
) -> Layout:
    """Lay out the canvases of `seats`, by seat number; those in `fresh` are new."""
    none = np.zeros((0, len(Field)), dtype=np.int64)
    slots = np.concatenate([none, *(seat.records.seated(seat.start) for seat in seats.values())])
    group = np.concatenate([none[:, 0], *(seat.records.group for seat in seats.values())])
    places = [seat.records.places + seat.start for seat in seats.values()]
    num_vectors = _to_offsets(slots[:, Field.VECTORS])
    num_weights = _to_offsets(slots[:, Field.WEIGHTS])
    table = np.zeros(num_places, dtype=np.int64)
    table[np.concatenate([none[:, 0], *places])] = np.repeat(
        slots[:, Field.TABLE], slots[:, Field.LENGTH]
    )
    is_fresh_seat, is_fresh_place = (
        np.zeros(size, dtype=np.int64) for size in (num_seats, num_places)
    )
    for number in fresh:
        is_fresh_seat[number] = 1
        is_fresh_place[seats[number].records.places + seats[number].start] = 1
    order = np.argsort(group, kind="stable")
    number_of_slot = np.empty_like(order)
    number_of_slot[order] = np.arange(len(order))
    counts = np.append(np.bincount(group, minlength=CANVASES), len(seats))
    firsts = np.append(np.cumsum(counts[:-1]) - counts[:-1], 0)
    canvases, dependents = _canvases(seats, number_of_slot, slots[:, Field.PARENT])
    longest = np.zeros(len(counts), dtype=np.int64)
    np.maximum.at(longest, group, slots[:, Field.LENGTH])
    longest[CANVASES] = max(map(len, places), default=0)
    return Layout(
        lists={
            "ranges": np.stack([firsts, counts], 1),
            "slots": slots[order],
            "canvases": canvases,
            "dependents": dependents,
            "places": np.concatenate([none[:, 0], *places]),
            "table_of_place": table,
            "is_fresh_seat": is_fresh_seat,
            "is_fresh_place": is_fresh_place,
        },
        launches={
            number: Launch(size_class(count), _holding(longest[number]))
            for number, count in enumerate(counts.tolist())
            if count
        },
        num_vectors=num_vectors,
        num_weights=num_weights,
    )


def _canvases(
    seats: Mapping[int, Seat], number_of_slot: NDArray[np.int64], parent: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Records of the canvases, and the slots with parents, canvas by canvas."""
    canvases = np.zeros((len(seats), len(CanvasField)), dtype=np.int64)
    first_place = first_dependent = 0
    for row, (number, seat) in zip(canvases, seats.items(), strict=True):
        records = seat.records
        num_dependents = int((records.slots[:, Field.PARENT] >= 0).sum())
        row[CanvasField.SEAT] = number
        row[CanvasField.PLACES] = first_place
        row[CanvasField.NUM_PLACES] = len(records.places)
        row[CanvasField.DEPENDENTS] = first_dependent
        row[CanvasField.NUM_DEPENDENTS] = num_dependents
        row[CanvasField.DEEPEST] = records.deepest
        first_place += len(records.places)
        first_dependent += num_dependents
    return canvases, number_of_slot[parent >= 0]


def _to_offsets(sizes: NDArray[np.int64]) -> int:
    """Replace sizes by where each begins; their sum."""
    ends = np.cumsum(sizes)
    sizes[:] = ends - sizes
    return int(ends[-1]) if len(ends) else 0


def _holding(count: int) -> int:
    return max(FEWEST_PLACES, triton.next_power_of_2(int(count)))
