"""The slots of live canvases on a device, in buffers that stay where they are while canvases come and go.

What a step launches depends on `graph_key` alone, and what it reads lies where it lay as long as `version` stays, so
that a step can be captured in a CUDA graph.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.diffusion.device.canvas_records import canvas_records
from inference.diffusion.device.lists import DeviceLists, send
from inference.diffusion.device.slot_layout import Launch, Seat, lay_out
from inference.diffusion.device.tables import DeviceTables
from inference.diffusion.structured.conditions import UNDECIDED
from inference.diffusion.structured.scaffold import Scaffold
from inference.diffusion.structured.table_store import TableStore, size_class


class SeatedSlots:
    """Canvases in one token buffer: each has a seat, and its slots are laid out for the kernels of `DeviceConstraint`.

    Attributes:
        version: goes up when buffers have moved; graphs captured before are void.
        table_of_place: `[num_places]` int32, the row of `store.token_class` that each place of a slot reads.
        num_masked: `[max_canvases]` int32, places of each seat's canvas that are masked after a step.
        confidence_of_place: `[num_places]` float32, what a step proposed: the constrained probability of each place's
            best token (of a finite slot's best value); 0 where nothing could be committed. Undefined outside slots.
    """

    def __init__(self, *, num_places: int, max_canvases: int, store: TableStore) -> None:
        """Nobody is seated yet. All scaffolds are to be of one tokenizer."""
        self._store = store
        self._tables = DeviceTables(store.device)
        self._lists = DeviceLists(store.device)
        self._seats: dict[int, Seat] = {}
        self._fresh: set[int] = set()
        self._launches: dict[int, Launch] = {}
        self._where_tables_are = (0, 0)
        self.version = 0

        def ints(size: int) -> Tensor:
            return torch.zeros(size, dtype=torch.int32, device=store.device)

        self.num_masked = ints(max_canvases)
        self._step_of_canvas = ints(max_canvases)
        self.confidence_of_place = torch.zeros(num_places, device=store.device)
        self.table_of_place, self._first_of_place = ints(num_places), ints(num_places)
        self._choice, self._source = ints(num_places), ints(num_places)
        self._flags, self._chosen = ints(num_places), ints(num_places)
        self._scratch: dict[str, Tensor] = {}
        self.lay_out()

    def seat(self, canvas: int, scaffold: Scaffold, start: int) -> None:
        """Give the free seat `canvas` to a canvas whose tokens lie from place `start`; counts from `lay_out` on."""
        assert canvas not in self._seats, f"seat {canvas} is taken"
        assert canvas < len(self.num_masked)
        tables = [span.table for span in scaffold.spans]
        self._store.add(tables)
        self._tables.add(tables)
        records = canvas_records(scaffold, self._tables, self._store)
        self._seats[canvas] = Seat.at(records, start)
        self._fresh.add(canvas)

    def vacate(self, canvas: int) -> None:
        """Take the canvas off its seat; counts from `lay_out` on."""
        del self._seats[canvas]
        self._fresh.discard(canvas)

    def lay_out(self) -> None:
        """Send what `seat` and `vacate` changed to the device. Does not wait for it."""
        layout = lay_out(self._seats, self._fresh)
        has_moved = self._lists.upload(layout.lists)
        tables = (self._tables.data.data_ptr(), self._store.token_class.data_ptr())
        has_moved |= tables != self._where_tables_are
        self._where_tables_are = tables
        for name, size in zip(("vectors", "sums", "weights"), layout.scratch, strict=True):
            has_moved |= self._reserve(name, size)
        self.version += has_moved
        self._launches = layout.launches
        if self._fresh:
            self._begin(layout.fresh_places)
        self._fresh.clear()

    def _begin(self, fresh_places: NDArray[np.int64]) -> None:
        """What the device keeps of each place and seat, for the canvases that are new."""
        places, tables, firsts = send(self._store.device, *fresh_places)
        (seats,) = send(self._store.device, list(self._fresh))
        index = places.long()
        self.table_of_place[index] = tables
        self._first_of_place[index] = firsts
        self._choice.index_fill_(0, index, UNDECIDED)
        self._step_of_canvas.index_fill_(0, seats.long(), 0)

    def _reserve(self, name: str, size: int) -> bool:
        """Make scratch at least so large, and with room to grow; whether it has moved."""
        if name in self._scratch and size <= len(self._scratch[name]):
            return False
        room = size_class(2 * size)
        self._scratch[name] = torch.empty(room, device=self._store.device)
        if name == "sums":
            self._scratch["bests"] = torch.empty(room, device=self._store.device)
            self._scratch["best_class"] = torch.empty(
                room, dtype=torch.int32, device=self._store.device
            )
        return True

    @property
    def graph_key(self) -> tuple[int, ...]:
        """Steps with equal keys, of one `version`, launch the same programs."""
        return tuple(
            number
            for group, launch in self._launches.items()
            for number in (group, launch.num_programs, launch.places)
        )
