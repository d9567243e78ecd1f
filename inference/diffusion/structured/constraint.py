"""The constrained step: every commit keeps every record valid.

A `ConstraintBatch` holds the slots of all live canvases. In each denoising step the engine

1. reduces the logits of the masked rows over the token classes of their slots: `kernels.naive.head_reduce_classes` with
   `store.token_class`, `store.num_classes` and, as `row_table`, `batch.table_of_place[place]`;
2. asks `propose` for the constrained confidence of every row: forward-backward over the slot's automaton, or the
   distribution over a finite slot's values. Only slots with something to fill are looked at, few after the first step;
3. chooses rows by whatever rule it has, and lets `commit` write them: one Viterbi path per slot, so that any choice, in
   any order, leaves every slot fillable.

Shapes: N rows, P places in the token buffer, B branches, J finite slots of a branch, V choices of a finite slot.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inference.diffusion.kernels.naive import HeadReduction
from inference.diffusion.structured.automata import TokenAutomaton
from inference.diffusion.structured.conditions import (
    UNDECIDED,
    ChoiceState,
    Conditions,
    PlacedSlot,
    place_slots,
)
from inference.diffusion.structured.scaffold import Scaffold
from inference.diffusion.structured.slot_groups import (
    AutomatonGroup,
    ChoiceGroup,
    GroupProposal,
    Rows,
)
from inference.diffusion.structured.slots import ChoiceTable
from inference.diffusion.structured.table_store import TableStore, size_class

FEW_CHOICES = 64  # sets up to this size are padded to each other's: enumerations, and the turns of a usual call


@dataclass(frozen=True, slots=True)
class SlotsToFill:
    """Those slots of a group that can be filled in this step.

    Attributes:
        group: of these slots alone.
        finite: `[S]` int64, `PlacedSlot.finite` of each.
        proposal: what they would commit.
    """

    group: AutomatonGroup | ChoiceGroup
    finite: Tensor
    proposal: GroupProposal


@dataclass(frozen=True, slots=True)
class Proposal:
    """What could be committed, per row `[N]`. A row that must wait for another slot, or has no place, offers nothing.

    Attributes:
        confidence: float32, constrained probability of the best token (of the best value, in a finite slot); 0 where
            nothing is offered.
        token: int64, the best legal token; the mask where nothing is offered.
        legal_mass: float32, probability that the model gives to what is legal; where it is small, the model wants
            something that the schema does not allow. 0 where nothing is offered.
        forced: bool, one token alone is legal; it is committed without being chosen.
        place: int64, as given to `propose`.
        parts: the slots that can be filled, for `commit`.
    """

    confidence: Tensor
    token: Tensor
    legal_mass: Tensor
    forced: Tensor
    place: Tensor
    parts: tuple[SlotsToFill, ...]


class ConstraintBatch:
    """The slots of a batch of canvases in one token buffer.

    Attributes:
        table_of_place: `[P]` int64, the row of `store.token_class` that each place reads; 0 outside slots.
    """

    def __init__(
        self,
        scaffolds: Sequence[Scaffold],
        starts: Sequence[int],
        num_places: int,
        store: TableStore,
    ) -> None:
        """Canvas `b` is `scaffolds[b]`, from place `starts[b]` of a token buffer of `num_places`.

        All scaffolds are of one tokenizer. Build a new batch when canvases come or go; tables stay in `store`.
        """
        store.add([span.table for scaffold in scaffolds for span in scaffold.spans])
        self.store, self.num_branches, self.num_places = store, len(scaffolds), num_places
        self.pad_token_id = scaffolds[0].tokenizer.pad_token_id
        self.mask_token_id = scaffolds[0].tokenizer.mask_token_id
        self._num_finite, slots = place_slots(scaffolds, starts)
        self._num_choices = max((slot.num_allowed for slot in slots), default=1)
        self._groups: list[AutomatonGroup | ChoiceGroup] = []
        self._orders: list[Tensor] = []
        self._finite: list[Tensor] = []
        self._conditions = Conditions(slots, self.num_branches * self._num_finite, store.device)
        self._index_places(slots)
        self._build_groups(slots)

    def _index_places(self, slots: Sequence[PlacedSlot]) -> None:
        table = np.zeros(self.num_places, dtype=np.int64)
        branch_of = np.full(self.num_places + 1, self.num_branches, dtype=np.int64)
        slot_of = np.full(self.num_places + 1, len(slots), dtype=np.int64)
        for number, slot in enumerate(slots):
            table[slot.start : slot.end] = self.store.number(slot.span.table)
            branch_of[slot.start : slot.end] = slot.branch
            slot_of[slot.start : slot.end] = number
        self.table_of_place = torch.from_numpy(table).to(self.store.device)
        self._branch_of = torch.from_numpy(branch_of).to(self.store.device)
        self._slot_of = torch.from_numpy(slot_of).to(self.store.device)

    def _build_groups(self, slots: Sequence[PlacedSlot]) -> None:
        members: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for number, slot in enumerate(slots):
            members[_group_key(slot)].append(number)
        device = self.store.device
        for key, numbers in members.items():
            group = [slots[number] for number in numbers]
            length = np.array([slot.span.num_tokens for slot in group])[:, None]
            place = np.arange(length.max()) + np.array([slot.start for slot in group])[:, None]
            place[np.arange(length.max()) >= length] = self.num_places
            self._groups.append(self._group(group, torch.from_numpy(place).to(device), key))
            self._orders.append(torch.tensor(numbers, device=device))
            self._finite.append(torch.tensor([slot.finite for slot in group], device=device))

    def _group(
        self, slots: Sequence[PlacedSlot], place: Tensor, key: tuple[int, ...]
    ) -> AutomatonGroup | ChoiceGroup:
        tables = [slot.span.table for slot in slots]
        valid = place < self.num_places
        automata = [table for table in tables if isinstance(table, TokenAutomaton)]
        if automata:
            specials = (self.pad_token_id, self.mask_token_id)
            return AutomatonGroup(automata, place, valid, self.store, (key[0], key[1]), specials)
        choices = [table for table in tables if isinstance(table, ChoiceTable)]
        allowed = [slot.num_allowed for slot in slots]
        return ChoiceGroup(choices, allowed, place, valid, self.store, self.mask_token_id)

    def new_state(
        self, previous: ChoiceState | None = None, rows: Sequence[int | None] = ()
    ) -> ChoiceState:
        """The state of the batch: nothing decided, or branch `b` as row `rows[b]` of `previous` has it."""
        shape = (self.num_branches, self._num_finite, self._num_choices)
        device = self.store.device
        state = ChoiceState(
            torch.full(shape[:2], UNDECIDED, device=device), torch.zeros(shape, device=device)
        )
        for branch, row in enumerate(rows):
            if previous is not None and row is not None:
                finite = min(shape[1], previous.choice.shape[1])
                choices = min(shape[2], previous.distribution.shape[2])
                state.choice[branch, :finite] = previous.choice[row, :finite]
                kept = previous.distribution[row, :finite, :choices]
                state.distribution[branch, :finite, :choices] = kept
        return state

    def propose(
        self, reduction: HeadReduction, place: Tensor, tokens: Tensor, state: ChoiceState
    ) -> Proposal:
        """Constrained confidences of the rows of `reduction`.

        Args:
            reduction: of the masked rows' logits, over the token classes of their tables.
            place: `[N]` integer, the place of each row in the token buffer; -1 for rows that fill up a fixed shape.
                Masked places without a row are left open to anything.
            tokens: `[P]` integer, the token buffer.
            state: which slots are open.
        """
        tokens = self._with_spare(tokens)
        place = torch.where(place >= 0, place, self.num_places).long()
        row_of_place = torch.full((self.num_places + 1,), -1, device=tokens.device)
        row_of_place[place] = torch.arange(len(place), device=tokens.device)
        row_of_place[-1] = -1
        rows = Rows(reduction, row_of_place)
        is_open = self._conditions.is_open(state.choice)
        parts = []
        confidence = torch.zeros(self.num_places + 1, device=tokens.device)
        token, mass = torch.full_like(tokens, self.mask_token_id), torch.zeros_like(confidence)
        forced = torch.zeros_like(confidence, dtype=torch.bool)
        for group, order, finite in zip(self._groups, self._orders, self._finite, strict=True):
            to_fill = (group.can_fill(rows, tokens) & is_open[order]).nonzero()[:, 0]
            if not len(to_fill):
                continue
            slots = group.only(to_fill)
            proposal = slots.propose(rows, tokens)
            confidence[slots.place] = proposal.confidence
            token[slots.place] = proposal.token
            mass[slots.place] = proposal.legal_mass
            forced[slots.place] = proposal.forced
            parts.append(SlotsToFill(slots, finite[to_fill], proposal))
        known = place < self.num_places
        return Proposal(
            confidence[place].where(known, 0),
            token[place],
            mass[place],
            forced[place] & known,
            place,
            tuple(parts),
        )

    def commit(
        self,
        proposal: Proposal,
        chosen: Tensor,
        tokens: Tensor,
        confidence: Tensor,
        state: ChoiceState,
    ) -> None:
        """Commit the chosen rows, in place.

        A branch of which no row that can be committed is chosen gets its most confident one. Committed beside the
        chosen: forced tokens, the PADs after a PAD, the whole of a finite slot, and PAD in slots that are now closed. A
        PAD chosen before the text in front of it is complete is exchanged for the slot's first masked position.

        Args:
            proposal: of this step.
            chosen: `[N]` bool.
            tokens: `[P]` integer, the token buffer.
            confidence: `[P]` float32, set to the constrained probability of each committed token; 1 where nothing was
                left to decide.
            state: set to the values decided.
        """
        spread = torch.zeros(self.num_places + 1, dtype=torch.bool, device=tokens.device)
        spread[proposal.place] = self._at_least_one(proposal, chosen)
        after, sure = self._with_spare(tokens), self._with_spare(confidence)
        choice, distribution = state.choice.flatten(), state.distribution.flatten(0, 1)
        for part in proposal.parts:
            group, finite, weight = part.group, part.finite, part.proposal.weight
            done = group.commit(part.proposal, spread[group.place])
            target = torch.where(done.written & group.valid, group.place, self.num_places)
            after[target] = done.token.to(after.dtype)
            sure[target] = done.confidence
            if isinstance(group, ChoiceGroup):
                decided = done.written.any(1)
                choice[finite] = torch.where(decided, weight.argmax(1), choice[finite])
                odds = weight.exp()
                kept = distribution[finite, : odds.shape[1]]
                distribution[finite, : odds.shape[1]] = torch.where(decided[:, None], odds, kept)
        state.choice.copy_(self._conditions.close(choice.view_as(state.choice)))
        state.distribution.copy_(distribution.view_as(state.distribution))
        self._close(state, after, sure)
        tokens.copy_(after[:-1])
        confidence.copy_(sure[:-1])

    def _at_least_one(self, proposal: Proposal, chosen: Tensor) -> Tensor:
        """`chosen`, and in branches without a choice that can be committed the first of the most confident rows."""
        branch = self._branch_of[proposal.place]
        counts = chosen & (proposal.confidence > 0)
        served = torch.zeros(self.num_branches + 1, device=chosen.device, dtype=torch.bool)
        served.index_fill_(0, torch.where(counts, branch, self.num_branches), True)
        most = torch.zeros(self.num_branches + 1, device=chosen.device)
        most = most.scatter_reduce(0, branch, proposal.confidence, "amax")
        is_most = (proposal.confidence == most[branch]) & (proposal.confidence > 0)
        row = torch.arange(len(branch), device=chosen.device)
        first = torch.full_like(most, len(branch), dtype=torch.int64)
        first = first.scatter_reduce(0, branch, row.where(is_most, len(branch)), "amin")
        return counts | (is_most & (row == first[branch]) & ~served[branch])

    def _close(self, state: ChoiceState, tokens: Tensor, confidence: Tensor) -> None:
        """Write PAD in every slot that has become closed."""
        is_closed = torch.cat(
            [self._conditions.is_closed(state.choice), tokens.new_zeros(1).bool()]
        )
        closes = is_closed[self._slot_of] & (tokens == self.mask_token_id)
        tokens.masked_fill_(closes, self.pad_token_id)
        confidence.masked_fill_(closes, 1.0)

    def _with_spare(self, buffer: Tensor) -> Tensor:
        """A copy with one place more, which is written where nothing is to be written."""
        return torch.cat([buffer, buffer.new_zeros(1)])


def _group_key(slot: PlacedSlot) -> tuple[int, ...]:
    """Sizes that the slots of a group share: states and classes, or the number of choices."""
    if isinstance(slot.span.table, ChoiceTable):
        return (size_class(max(slot.num_allowed, FEW_CHOICES)),)
    num_states, num_classes = slot.span.table.transitions.shape
    return size_class(num_states), size_class(num_classes)
