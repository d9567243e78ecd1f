"""Slots of like size, batched: their tables on the device, what they propose and what they commit.

Shapes: S slots, L positions, Q states, C token classes, V choices. `place` is `[S, L]` int64, places in the token
buffer; `valid` is False beyond a slot's end. A step looks at the slots that have something to fill: `only` those of a
group propose and commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inference.diffusion.kernels.naive import HeadReduction
from inference.diffusion.kernels.naive_slots import best_path, choice_scores, slot_marginals
from inference.diffusion.structured.automata import TokenAutomaton
from inference.diffusion.structured.slots import ChoiceTable
from inference.diffusion.structured.table_store import TableStore

LOG_PROBABILITY_FLOOR = -1e4
"""Least log-probability of a token, so that structure alone decides what is illegal: -inf means forbidden."""

MIN_CONFIDENCE = 1e-30
"""Least confidence of a token that may be committed; 0 means that it may not."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Scores of the rows that the model gave logits for.

    Attributes:
        reduction: over the classes of each row's table.
        row_of_place: `[num_tokens + 1]` int64, the row of each place in the token buffer; -1 where it has none.
    """

    reduction: HeadReduction
    row_of_place: Tensor

    def known(self, place: Tensor) -> Tensor:
        """Whether places have a row."""
        return self.row_of_place[place] >= 0

    def gather(self, place: Tensor, num_classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Per place and class: highest and summed log-probability, best token (`[S, L, C]`); has a row (`[S, L]`)."""
        row = self.row_of_place[place]
        known = row >= 0
        row = row.clamp_min(0)
        score = self.reduction.score[:, :num_classes][row]
        normaliser = self.reduction.row_lse[row][..., None]
        best = _at_least_floor(score - normaliser)
        summed = _at_least_floor(self.reduction.lse[:, :num_classes][row] - normaliser)
        return best, summed, self.reduction.token[:, :num_classes][row].long(), known


@dataclass(frozen=True, slots=True)
class GroupProposal:
    """What a group of slots would commit, per position `[S, L]`; the rest is for the commit that follows.

    Attributes:
        confidence: constrained probability of the best token; 0 where nothing can be committed.
        token: the best legal token.
        legal_mass: probability that the model gives to legal tokens (to legal values, for choices).
        forced: one token alone is legal.
        open: masked, with a row of logits.
        here: the token buffer's tokens.
        best: `[S, L, C]` log-probability of each class's best token.
        best_token: `[S, L, C]` that token.
        weight: `[S, L, C]` log of the constrained probability of each class's best token; `[S, V]` of each choice.
    """

    confidence: Tensor
    token: Tensor
    legal_mass: Tensor
    forced: Tensor
    open: Tensor
    here: Tensor
    best: Tensor
    best_token: Tensor
    weight: Tensor


@dataclass(frozen=True, slots=True)
class GroupCommit:
    """Tokens and confidences to write, `[S, L]`, where `written`."""

    written: Tensor
    token: Tensor
    confidence: Tensor


class AutomatonGroup:
    """Slots with automata of like size."""

    def __init__(
        self,
        automata: Sequence[TokenAutomaton],
        place: Tensor,
        valid: Tensor,
        store: TableStore,
        sizes: tuple[int, int],
        special_ids: tuple[int, int],
    ) -> None:
        num_states, self.num_classes = sizes
        self.pad_token_id, self.mask_token_id = special_ids
        distinct = list(dict.fromkeys(automata))
        transitions = np.zeros((len(distinct), num_states, self.num_classes), dtype=np.int64)
        accepting = np.zeros((len(distinct), num_states), dtype=bool)
        class_size = np.zeros((len(distinct), self.num_classes), dtype=np.int64)
        any_token = np.zeros((len(distinct), self.num_classes), dtype=np.int64)
        is_pad = np.zeros((len(distinct), self.num_classes), dtype=bool)
        for i, automaton in enumerate(distinct):
            states, classes = automaton.transitions.shape
            transitions[i, :states, :classes] = automaton.transitions
            accepting[i, :states] = automaton.accepting
            class_size[i, :classes] = automaton.class_size
            any_token[i, :classes] = automaton.any_token
            is_pad[i, classes - 1] = True
        row = {automaton: i for i, automaton in enumerate(distinct)}
        self.place, self.valid, self.store = place, valid, store
        self.automaton = torch.tensor([row[a] for a in automata], device=store.device)
        self.number = torch.tensor([store.number(a) for a in distinct], device=store.device)
        self.transitions, self.accepting, self.class_size, self.any_token, self.is_pad = (
            torch.from_numpy(table).to(store.device)
            for table in (transitions, accepting, class_size, any_token, is_pad)
        )

    def can_fill(self, rows: Rows, tokens: Tensor) -> Tensor:
        """Which slots have a masked position with a row: `[S]` bool."""
        masked = self.valid & (tokens[self.place] == self.mask_token_id)
        return (masked & rows.known(self.place)).any(1)

    def only(self, slots: Tensor) -> AutomatonGroup:
        """The group of the slots of these numbers, `[S]` int64."""
        part = copy(self)
        part.place, part.valid = self.place[slots], self.valid[slots]
        part.automaton = self.automaton[slots]
        return part

    def propose(self, rows: Rows, tokens: Tensor) -> GroupProposal:
        """Exact legality and constrained confidence of every masked position."""
        here, valid, of = tokens[self.place], self.valid, self.automaton
        masked = valid & (here == self.mask_token_id)
        best, summed, best_token, known = rows.gather(self.place, self.num_classes)
        any_token = self.any_token[of][:, None]  # for logits that are NaN
        best_token = torch.where(best_token >= 0, best_token, any_token)
        committed = self._committed_scores(here)
        free = torch.where(known[..., None], summed, 0)
        scores = torch.where(masked[..., None], free, committed)
        marginals = slot_marginals(scores, self.transitions[of], self.accepting[of], valid)
        legal = marginals.transfer > -torch.inf
        weight = best + marginals.transfer - marginals.log_total[:, None, None]
        top, top_class = weight.max(dim=2)
        opened = masked & known
        forced = opened & ((legal * self.class_size[of][:, None]).sum(2) == 1)
        confidence = torch.where(forced, 1.0, top.exp().clamp(MIN_CONFIDENCE, 1))
        ends = self._is_pad_class(top_class) & ~forced
        confidence = self._pad_late(confidence, ends, opened)
        return GroupProposal(
            confidence=torch.where(opened, confidence, 0),
            token=best_token.gather(2, top_class[..., None])[..., 0],
            legal_mass=torch.where(legal, summed.exp(), 0).sum(2).clamp_max(1),
            forced=forced,
            open=opened,
            here=here,
            best=best,
            best_token=best_token,
            weight=weight,
        )

    def commit(self, proposal: GroupProposal, chosen: Tensor) -> GroupCommit:
        """Commit the chosen positions on one accepting path; after a PAD the rest of the slot is PAD too.

        A PAD is committed only when no position before it stays masked. Where that would leave nothing of what was
        chosen in a slot, its first masked position is committed instead.
        """
        here, valid, of = proposal.here, self.valid, self.automaton
        masked = valid & (here == self.mask_token_id)
        chosen = (chosen & proposal.open) | proposal.forced
        early = _any_before(masked & ~chosen)
        ends = self._is_pad_class(proposal.weight.argmax(2)) & early & chosen & ~proposal.forced
        first = proposal.open & ~_any_before(masked)
        emptied = ends.any(1, keepdim=True) & ~(chosen & ~ends).any(1, keepdim=True)
        chosen = (chosen & ~ends) | (first & emptied)
        scores = torch.where(chosen[..., None], proposal.best, 0)
        keeps_going = (chosen & early & ~proposal.forced)[..., None] & self.is_pad[of][:, None]
        scores = scores.masked_fill(keeps_going, -torch.inf)
        scores = torch.where(masked[..., None], scores, self._committed_scores(here))
        path = best_path(scores, self.transitions[of], self.accepting[of], valid)[..., None]
        token = proposal.best_token.gather(2, path)[..., 0]
        confidence = proposal.weight.gather(2, path)[..., 0].exp().clamp(MIN_CONFIDENCE, 1)
        after = torch.where(chosen, token, here) == self.pad_token_id
        ended = valid & _any_before(after & valid) & masked & ~chosen
        return GroupCommit(
            written=chosen | ended,
            token=torch.where(ended, self.pad_token_id, token),
            confidence=torch.where(ended, 1.0, confidence),
        )

    def _committed_scores(self, here: Tensor) -> Tensor:
        """0 for the class of each position's token, -inf for all others: `[S, L, C]`."""
        number = self.number[self.automaton][:, None]
        classes = self.store.token_class[number, here].long()[..., None]
        own = torch.arange(self.num_classes, device=here.device) == classes
        return torch.zeros(own.shape, device=here.device).masked_fill(~own, -torch.inf)

    def _is_pad_class(self, classes: Tensor) -> Tensor:
        return self.is_pad[self.automaton].gather(1, classes)

    def _pad_late(self, confidence: Tensor, is_pad: Tensor, proposed: Tensor) -> Tensor:
        """The text can end here only once all before is said: a PAD is no surer than the least sure before it."""
        least = torch.where(proposed, confidence, 1).cummin(dim=1).values
        return torch.where(is_pad, least, confidence)


class ChoiceGroup:
    """Finite slots, scored and committed as whole values."""

    def __init__(
        self,
        tables: Sequence[ChoiceTable],
        num_allowed: Sequence[int],
        place: Tensor,
        valid: Tensor,
        store: TableStore,
        mask_token_id: int,
    ) -> None:
        device, num_choices, num_tokens = store.device, max(num_allowed), place.shape[1]
        self.mask_token_id = mask_token_id
        self.num_classes = max(table.num_classes for table in tables)
        choice_class = np.zeros((len(tables), num_choices, num_tokens), dtype=np.int64)
        choice_token = np.zeros((len(tables), num_choices, num_tokens), dtype=np.int64)
        for i, (table, count) in enumerate(zip(tables, num_allowed, strict=True)):
            width = table.tokens.shape[1]
            choice_class[i, :count, :width] = table.choice_class[:count]
            choice_token[i, :count, :width] = table.tokens[:count]
        self.place, self.valid = place, valid
        self.choice_class = torch.from_numpy(choice_class).to(device)
        self.choice_token = torch.from_numpy(choice_token).to(device)
        self.num_allowed = torch.tensor(num_allowed, device=device)
        self.allowed = torch.arange(num_choices, device=device) < self.num_allowed[:, None]

    def can_fill(self, rows: Rows, tokens: Tensor) -> Tensor:
        """Which slots are masked, every masked position with a row: `[S]` bool."""
        masked = self.valid & (tokens[self.place] == self.mask_token_id)
        return masked.any(1) & (rows.known(self.place) | ~masked).all(1)

    def only(self, slots: Tensor) -> ChoiceGroup:
        """The group of the slots of these numbers, `[S]` int64."""
        part = copy(self)
        part.place, part.valid = self.place[slots], self.valid[slots]
        part.choice_class, part.choice_token = self.choice_class[slots], self.choice_token[slots]
        part.num_allowed, part.allowed = self.num_allowed[slots], self.allowed[slots]
        return part

    def propose(self, rows: Rows, tokens: Tensor) -> GroupProposal:
        """The distribution over the values of every slot."""
        here = tokens[self.place]
        masked = self.valid & (here == self.mask_token_id)
        best, _, best_token, _ = rows.gather(self.place, self.num_classes)
        scores = choice_scores(best, self.choice_class, masked).masked_fill(
            ~self.allowed, -torch.inf
        )
        weight = scores.log_softmax(1)
        top, value = weight.max(1)
        token = self._tokens_of(value)
        confidence = top.exp().clamp(MIN_CONFIDENCE, 1)[:, None]
        return GroupProposal(
            confidence=torch.where(masked, confidence, 0),
            token=token,
            legal_mass=scores.logsumexp(1).exp().clamp_max(1)[:, None].expand_as(token),
            forced=masked & (self.num_allowed == 1)[:, None],
            open=masked,
            here=here,
            best=best,
            best_token=best_token,
            weight=weight,
        )

    def commit(self, proposal: GroupProposal, chosen: Tensor) -> GroupCommit:
        """Commit the best value of every slot with a chosen position, whole."""
        written = ((chosen & proposal.open) | proposal.forced).any(1, keepdim=True) & proposal.open
        return GroupCommit(written, proposal.token, proposal.confidence)

    def _tokens_of(self, value: Tensor) -> Tensor:
        index = value[:, None, None].expand(-1, 1, self.choice_token.shape[2])
        return self.choice_token.gather(1, index)[:, 0]


def _at_least_floor(log_probability: Tensor) -> Tensor:
    """Raise to the floor, NaN too: a broken forward shows as the least confidence, never as an endless step."""
    return log_probability.nan_to_num(nan=LOG_PROBABILITY_FLOOR).clamp_min(LOG_PROBABILITY_FLOOR)


def _any_before(flags: Tensor) -> Tensor:
    """Whether a flag is set at an earlier position: `[S, L]`."""
    return (flags.cumsum(1) - flags.long()) > 0
