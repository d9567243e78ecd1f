"""The constrained step on a device: what `ConstraintBatch` and the commit rules do, in a few kernels.

Nothing waits for the device, and no size depends on data. A step is

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
from torch.profiler import record_function

from inference.diffusion.device.canvas_records import AUTOMATA, CHOICES
from inference.diffusion.device.seated_slots import SeatedSlots
from inference.diffusion.device.slot_layout import CANVASES, POSITIONS, Launch
from inference.diffusion.kernels.naive import HeadReduction, Rule
from inference.diffusion.kernels.slot_canvases import choose_kernel, close_kernel
from inference.diffusion.kernels.slot_choices import (
    commit_choices_kernel,
    propose_choices_kernel,
)
from inference.diffusion.kernels.slot_positions import bundle_kernel, weigh_kernel
from inference.diffusion.kernels.slot_sweeps import commit_slots_kernel, sweep_kernel
from inference.diffusion.rules import CommitRule, Doubt, Factor, Joint, Quota, Threshold
from inference.diffusion.structured.table_store import TableStore

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


class DeviceConstraint(SeatedSlots):
    """The slots of live canvases in one token buffer, constrained by Triton kernels."""

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
        """Nobody is seated yet.

        Raises:
            RuleNotOnDeviceError: no kernel knows `rule`.
        """
        if type(rule) not in RULES:
            raise RuleNotOnDeviceError(f"{rule!r}: use {', '.join(r.__name__ for r in RULES)}")
        super().__init__(num_places=num_places, max_canvases=max_canvases, store=store)
        self._rule, parameters = RULES[type(rule)]
        self._parameters = torch.tensor(parameters(rule), dtype=torch.float32, device=store.device)
        self._pad, self._mask = pad_token_id, mask_token_id

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
        with record_function("constraint"):
            for group, launch in self._launches.items():
                if group < CHOICES:
                    self._propose_slots(group, launch, reduction, row_of_place, tokens)
                elif group == CHOICES:
                    self._propose_choices(launch, reduction, row_of_place, tokens)
        if CANVASES not in self._launches:
            return
        with record_function("commit"):
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
            self._first_of_place,
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
