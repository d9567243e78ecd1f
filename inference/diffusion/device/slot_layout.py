"""Where the slots of all seated canvases lie: the lists that kernels read, and how many programs that makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import triton
from numpy.typing import NDArray

from inference.diffusion.device.canvas_records import CHOICES, CanvasRecords
from inference.diffusion.kernels.slot_canvases import CanvasField
from inference.diffusion.kernels.slot_records import Field

CANVASES = CHOICES + 1
"""The group of programs that take a canvas each; the groups before it take a slot each."""

POSITIONS = CANVASES + 1
"""The first of the groups that take a position each, one per group of slots with automata."""

FEWEST_PROGRAMS = FEWEST_PLACES = 16


@dataclass(frozen=True, slots=True)
class Seat:
    """A canvas from place `start` of the token buffer; its records and places moved there."""

    records: CanvasRecords
    slots: NDArray[np.int64]
    places: NDArray[np.int64]

    @classmethod
    def at(cls, records: CanvasRecords, start: int) -> Seat:
        """The canvas of `records` at place `start`."""
        return cls(records, records.seated(start), records.places + start)


@dataclass(frozen=True, slots=True)
class Launch:
    """The programs for a group, some of them idle, and a power of two that holds the places of each."""

    num_programs: int
    places: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A layout.

    Attributes:
        lists: integers by name. `ranges`: first record and number of records per group. `slots`, `canvases`: records;
            `positions`: slot and position in it.
            `dependents`: slots that depend on others, `places`: places of slots, both canvas by canvas.
        fresh_places: `[3, number]`, the places of new canvases' slots, and of each the number of its table and the
            first place of its slot.
        launches: per group that has records.
        scratch: sizes of what `Field.VECTORS`, `SUMS` and `WEIGHTS` are offsets in.
    """

    lists: dict[str, NDArray[np.int64]]
    fresh_places: NDArray[np.int64]
    launches: dict[int, Launch]
    scratch: tuple[int, ...]


def lay_out(seats: Mapping[int, Seat], fresh: Iterable[int]) -> Layout:
    """Lay out the canvases of `seats`, by seat number; those in `fresh` are new."""
    none = np.zeros((0, len(Field)), dtype=np.int64)
    slots = np.concatenate([none, *(seat.slots for seat in seats.values())])
    group = np.concatenate([none[:, 0], *(seat.records.group for seat in seats.values())])
    length = slots[:, Field.LENGTH]
    scratch = tuple(
        _to_offsets(slots[:, field]) for field in (Field.VECTORS, Field.SUMS, Field.WEIGHTS)
    )
    order = np.argsort(group, kind="stable")
    number_of_slot = np.empty_like(order)
    number_of_slot[order] = np.arange(len(order))
    canvases, dependents = _canvases(seats, number_of_slot, slots[:, Field.PARENT])

    counts = np.zeros(POSITIONS + CHOICES, dtype=np.int64)
    counts[:CANVASES] = np.bincount(group, minlength=CANVASES)
    counts[CANVASES] = len(seats)
    np.add.at(counts, POSITIONS + group[group < CHOICES], length[group < CHOICES])
    most_places = np.zeros_like(counts)
    np.maximum.at(most_places, group, length)
    most_places[CANVASES] = canvases[:, CanvasField.NUM_PLACES].max(initial=0)
    most_places[POSITIONS:] = most_places[:CHOICES]
    firsts = np.zeros_like(counts)
    for groups in (slice(0, CANVASES), slice(POSITIONS, None)):
        firsts[groups] = np.cumsum(counts[groups]) - counts[groups]
    return Layout(
        lists={
            "ranges": np.stack([firsts, counts], 1),
            "slots": slots[order],
            "positions": _positions(np.where(group < CHOICES, length, 0)[order]),
            "canvases": canvases,
            "dependents": dependents,
            "places": np.concatenate([none[:, 0], *(seat.places for seat in seats.values())]),
        },
        fresh_places=_fresh_places(seats, fresh),
        launches={
            number: Launch(_num_programs(int(count)), _holding(int(places)))
            for number, (count, places) in enumerate(zip(counts, most_places, strict=True))
            if count
        },
        scratch=scratch,
    )


def _positions(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Slot and position in the slot, of all positions: `[num_positions, 2]`."""
    slot = np.repeat(np.arange(len(lengths)), lengths)
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.stack([slot, np.arange(len(slot)) - first], 1)


def _fresh_places(seats: Mapping[int, Seat], fresh: Iterable[int]) -> NDArray[np.int64]:
    """The places of new canvases' slots, and for each the table that it reads and the first place of its slot."""
    columns = [np.zeros((3, 0), dtype=np.int64)]
    for seat in (seats[number] for number in fresh):
        of_slots = seat.slots[:, [Field.TABLE, Field.FIRST]].T
        of_places = np.repeat(of_slots, seat.slots[:, Field.LENGTH], axis=1)
        columns.append(np.concatenate([seat.places[None], of_places]))
    return np.concatenate(columns, axis=1)


def _canvases(
    seats: Mapping[int, Seat], number_of_slot: NDArray[np.int64], parent: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Records of the canvases, and the slots with parents, canvas by canvas."""
    canvases = np.zeros((len(seats), len(CanvasField)), dtype=np.int64)
    first_place = first_dependent = 0
    for row, (number, seat) in zip(canvases, seats.items(), strict=True):
        records = seat.records
        row[CanvasField.SEAT] = number
        row[CanvasField.PLACES] = first_place
        row[CanvasField.NUM_PLACES] = len(records.places)
        row[CanvasField.DEPENDENTS] = first_dependent
        row[CanvasField.NUM_DEPENDENTS] = records.num_dependents
        row[CanvasField.DEEPEST] = records.deepest
        first_place += len(records.places)
        first_dependent += records.num_dependents
    return canvases, number_of_slot[parent >= 0]


def _to_offsets(sizes: NDArray[np.int64]) -> int:
    """Replace sizes by where each begins; their sum."""
    ends = np.cumsum(sizes)
    sizes[:] = ends - sizes
    return int(ends[-1]) if len(ends) else 0


def _num_programs(count: int) -> int:
    """The smallest of 16, 64, 256 … that is enough: idle programs end at once, another size is another graph."""
    power = int(triton.next_power_of_2(max(count, FEWEST_PROGRAMS)))
    return power if power.bit_length() % 2 else 2 * power


def _holding(count: int) -> int:
    return max(FEWEST_PLACES, int(triton.next_power_of_2(count)))
