"""The constrained step on a device: what `ConstraintBatch` and the commit rules do, in a few kernels.

The slots of all live canvases are laid out in buffers that stay where they are, so that a step can be captured in a
CUDA graph: nothing waits for the device, and no size depends on data. A step is

1. propose: per slot, confidences of its places (`kernels.slot_positions`, `slot_sweeps`, `slot_choices`);
2. choose: per canvas, the places that the rule takes (`kernels.slot_canvases`);
3. commit: per slot, tokens on one accepting path, or one whole value;
4. close: per canvas, PAD in slots that are now known to stay empty.

Slots with automata are grouped by their size. A group has three launches to propose and one to commit; whatever is
live, there are four launches beside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from inference.diffusion.device.canvas_records import AUTOMATA, CHOICES, canvas_records
from inference.diffusion.device.lists import DeviceLists
from inference.diffusion.device.slot_layout import CANVASES, POSITIONS, Launch, Seat, lay_out
from inference.diffusion.device.tables import DeviceTables
from inference.diffusion.kernels.naive import HeadReduction, Rule
from inference.diffusion.kernels.slot_canvases import choose_kernel, close_kernel
from inference.diffusion.kernels.slot_choices import (
    commit_choices_kernel,
    propose_choices_kernel,
)
from inference.diffusion.kernels.slot_positions import bundle_kernel, weigh_kernel
from inference.diffusion.kernels.slot_sweeps import commit_slots_kernel, sweep_kernel
from inference.diffusion.rules import CommitRule, Doubt, Factor, Joint, Quota, Threshold
from inference.diffusion.structured.conditions import UNDECIDED
from inference.diffusion.structured.scaffold import Scaffold
from inference.diffusion.structured.table_store import TableStore, size_class

RULES: dict[type[Any], tuple[Rule, Callable[[Any], tuple[float, float]]]] = {
    Threshold: (Rule.THRESHOLD, lambda rule: (rule.value, 0)),
    Factor: (Rule.FACTOR, lambda rule: (rule.value, 0)),
    Quota: (Rule.QUOTA, lambda rule: (rule.count, rule.num_steps or 0)),
    Joint: (Rule.JOINT, lambda rule: (rule.value, 0)),
    Doubt: (Rule.DOUBT, lambda rule: (rule.value, 0)),
}
"""Per class of rule, the one that kernels know, and its parameters for them (see `choose_kernel`)."""

CHOICES_AT_ONCE = 128  # four per lane: the turns of a usual call in one go
RIVALS_AT_ONCE = 2**13  # times the places compared with them: 32 per thread
MEMBERS_AT_ONCE = 8  # classes of a bundle: what text has at most
DEPENDENTS_AT_ONCE = 16
PLACES_AT_ONCE = 16


class RuleNotOnDeviceError(ValueError):
    """The commit rule has no kernel."""


class DeviceConstraint:
    """The slots of live canvases in one token buffer, constrained by Triton kernels.

    Attributes:
        version: goes up when buffers have moved; graphs captured before are void.
        num_masked: `[max_canvases]` int32, places of each seat's canvas that are masked after a step.
        confidence_of_place: `[num_places]` float32, what a step proposed: the constrained probability of each place's
            best token (of a finite slot's best value); 0 where nothing could be committed. Undefined outside slots.
    """

    def __init__(
        self,
        *,
        num_places: int,
        max_canvases: int,
        store: TableStore,
        pad_token_id: int,
        mask_token_id: int,
        rule: CommitRule,
    ) -> None:
        """Nobody is seated yet. All scaffolds are to be of one tokenizer.

        Raises:
            RuleNotOnDeviceError: no kernel knows `rule`.
        """
        if type(rule) not in RULES:
            raise RuleNotOnDeviceError(f"{rule!r}: use {', '.join(r.__name__ for r in RULES)}")
        self._rule, parameters = RULES[type(rule)]
        self._store = store
        self._pad, self._mask = pad_token_id, mask_token_id
        self._tables = DeviceTables(store.device)
        self._lists = DeviceLists(store.device)
        self._seats: dict[int, Seat] = {}
        self._fresh: set[int] = set()
        self._launches: dict[int, Launch] = {}
        self._where_tables_are = (0, 0)
        self.version = 0

        def ints(size: int) -> Tensor:
            return torch.zeros(size, dtype=torch.int32, device=store.device)

        self._parameters = torch.tensor(parameters(rule), dtype=torch.float32, device=store.device)
        self.num_masked = ints(max_canvases)
        self._step_of_canvas = ints(max_canvases)
        self.confidence_of_place = torch.zeros(num_places, device=store.device)
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
        layout = lay_out(
            self._seats,
            self._fresh,
            num_places=len(self._choice),
            num_seats=len(self.num_masked),
        )
        has_moved = self._lists.upload(layout.lists)
        tables = (self._tables.data.data_ptr(), self._store.token_class.data_ptr())
        has_moved |= tables != self._where_tables_are
        self._where_tables_are = tables
        for name, size in zip(("vectors", "sums", "weights"), layout.scratch, strict=True):
            has_moved |= self._reserve(name, size)
        self.version += has_moved
        self._launches = layout.launches
        self._choice.masked_fill_(self._lists["is_fresh_place"][: len(self._choice)] > 0, UNDECIDED)
        self._step_of_canvas.masked_fill_(
            self._lists["is_fresh_seat"][: len(self.num_masked)] > 0, 0
        )
        self._fresh.clear()

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
    def table_of_place(self) -> Tensor:
        """`[num_places]` int32, the row of `store.token_class` that each place reads; 0 outside slots."""
        return self._lists["table_of_place"][: len(self._choice)]

    @property
    def graph_key(self) -> tuple[int, ...]:
        """Steps with equal keys, of one `version`, launch the same programs."""
        return tuple(
            number
            for group, launch in self._launches.items()
            for number in (group, launch.num_programs, launch.places)
        )

    def step(
        self, reduction: HeadReduction, row_of_place: Tensor, tokens: Tensor, confidence: Tensor
    ) -> None:
        """Commit what the rule chooses, at least one token of every canvas that has a row.

        Beside the chosen: forced tokens, the PADs after a PAD, the whole of a finite slot, PAD in slots that have
        become closed. A PAD chosen before the text in front of it is complete is exchanged for the slot's first masked
        place.

        Args:
            reduction: over the classes of each row's table, `[num_rows, num_classes]`.
            row_of_place: `[num_places]` int32, the row of each masked place; -1 for places without one, which are left
                open to anything.
            tokens: `[num_places]` int32 or int64, written.
            confidence: `[num_places]` float32, written: the constrained probability of each committed token; 1 where
                nothing was left to decide.
        """
        for group, launch in self._launches.items():
            if group < CHOICES:
                self._propose_slots(group, launch, reduction, row_of_place, tokens)
            elif group == CHOICES:
                self._propose_choices(launch, reduction, row_of_place, tokens)
        if CANVASES not in self._launches:
            return
        self._choose(self._launches[CANVASES], tokens)
        for group, launch in self._launches.items():
            if group < CHOICES:
                self._commit_slots(group, launch, reduction, tokens, confidence)
            elif group == CHOICES:
                self._commit_choices(launch, tokens, confidence)
        self._close(self._launches[CANVASES], tokens, confidence)

    def _propose_slots(
        self,
        group: int,
        launch: Launch,
        reduction: HeadReduction,
        row_of_place: Tensor,
        tokens: Tensor,
    ) -> None:
        sizes, positions = AUTOMATA[group], self._launches[POSITIONS + group]
        bundle_kernel[(positions.num_programs,)](
            self._lists["slots"],
            self._lists["ranges"],
            self._lists["positions"],
            self._tables.data,
            self._store.token_class,
            self._choice,
            tokens,
            row_of_place,
            reduction.score,
            reduction.lse,
            reduction.row_lse,
            self.confidence_of_place,
            self._flags,
            self._source,
            self._scratch["sums"],
            self._scratch["bests"],
            self._scratch["best_class"],
            reduction.score.stride(0),
            self._store.token_class.stride(0),
            self._mask,
            GROUP=POSITIONS + group,
            PLACES=positions.places,
            BUNDLES=sizes.bundles,
            MEMBERS_AT_ONCE=MEMBERS_AT_ONCE,
            num_warps=max(1, sizes.bundles // 32),
        )
        sweep_kernel[(launch.num_programs, 2)](
            self._lists["slots"],
            self._lists["ranges"],
            self._tables.data,
            self._flags,
            self._scratch["sums"],
            self._scratch["vectors"],
            GROUP=group,
            STATES=sizes.states,
            LINKS=sizes.links,
            PLACES=launch.places,
            DENSE=sizes.is_dense,
            num_warps=sizes.num_warps,
        )
        weigh_kernel[(positions.num_programs,)](
            self._lists["slots"],
            self._lists["ranges"],
            self._lists["positions"],
            self._tables.data,
            reduction.score,
            reduction.row_lse,
            self.confidence_of_place,
            self._flags,
            self._source,
            self._scratch["vectors"],
            self._scratch["weights"],
            reduction.score.stride(0),
            GROUP=POSITIONS + group,
            STATES=sizes.states,
            CLASSES=sizes.classes,
            num_warps=sizes.num_warps,
        )

    def _propose_choices(
        self, launch: Launch, reduction: HeadReduction, row_of_place: Tensor, tokens: Tensor
    ) -> None:
        propose_choices_kernel[(launch.num_programs,)](
            self._lists["slots"],
            self._lists["ranges"],
            self._tables.data,
            self._choice,
            tokens,
            row_of_place,
            reduction.score,
            reduction.row_lse,
            self.confidence_of_place,
            self._flags,
            self._source,
            reduction.score.stride(0),
            self._mask,
            GROUP=CHOICES,
            PLACES=launch.places,
            CHOICES=CHOICES_AT_ONCE,
            num_warps=1,
        )

    def _choose(self, launch: Launch, tokens: Tensor) -> None:
        choose_kernel[(launch.num_programs,)](
            self._lists["canvases"],
            self._lists["ranges"],
            self._lists["places"],
            self._lists["first_of_place"],
            tokens,
            self.confidence_of_place,
            self._flags,
            self._chosen,
            self._step_of_canvas,
            self._parameters,
            self._mask,
            GROUP=CANVASES,
            RULE=int(self._rule),
            ROWS=launch.places,
            RIVALS=max(2, min(32, RIVALS_AT_ONCE // launch.places)),
            num_warps=8,
        )

    def _commit_slots(
        self,
        group: int,
        launch: Launch,
        reduction: HeadReduction,
        tokens: Tensor,
        confidence: Tensor,
    ) -> None:
        sizes = AUTOMATA[group]
        commit_slots_kernel[(launch.num_programs,)](
            self._lists["slots"],
            self._lists["ranges"],
            self._tables.data,
            tokens,
            confidence,
            reduction.token,
            self._chosen,
            self._flags,
            self._source,
            self._scratch["bests"],
            self._scratch["best_class"],
            self._scratch["vectors"].view(torch.int32),
            self._scratch["weights"],
            reduction.score.stride(0),
            self._pad,
            GROUP=group,
            STATES=sizes.states,
            LINKS=sizes.links,
            PLACES=launch.places,
            DENSE=sizes.is_dense,
            num_warps=sizes.num_warps,
        )

    def _commit_choices(self, launch: Launch, tokens: Tensor, confidence: Tensor) -> None:
        commit_choices_kernel[(launch.num_programs,)](
            self._lists["slots"],
            self._lists["ranges"],
            self._tables.data,
            self._choice,
            tokens,
            confidence,
            self.confidence_of_place,
            self._chosen,
            self._flags,
            self._source,
            GROUP=CHOICES,
            PLACES=launch.places,
            num_warps=1,
        )

    def _close(self, launch: Launch, tokens: Tensor, confidence: Tensor) -> None:
        close_kernel[(launch.num_programs,)](
            self._lists["canvases"],
            self._lists["ranges"],
            self._lists["dependents"],
            self._lists["places"],
            self._lists["slots"],
            self._tables.data,
            self._choice,
            tokens,
            confidence,
            self.num_masked,
            self._mask,
            self._pad,
            GROUP=CANVASES,
            SLOTS=DEPENDENTS_AT_ONCE,
            PLACES=PLACES_AT_ONCE,
            ROWS=launch.places,
        )
