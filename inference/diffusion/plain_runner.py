"""The runner in plain PyTorch, for machines without a GPU, and the twin of `DeviceRunner`.

Calls that enter together form a cohort: they share one constraint, which is laid out once, and leave together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from inference.diffusion.batch import Branch, LiveCall
from inference.diffusion.memory import Run
from inference.diffusion.model import LladaModel
from inference.diffusion.plain_trunk import PlainTrunk, Segment
from inference.diffusion.rules import CommitRule, Progress
from inference.diffusion.runner import FilledCanvas
from inference.diffusion.structured.class_reduction import ClassReduction
from inference.diffusion.structured.constraint import ChoiceState, ConstraintBatch
from inference.diffusion.structured.slot_groups import TableStore


@dataclass(slots=True)
class _Cohort:
    """Calls that entered together."""

    calls: list[LiveCall]
    branches: list[Branch]
    constraint: ConstraintBatch
    state: ChoiceState
    places: Tensor  # [num_branches, longest canvas], `num_rows` beyond a canvas's end
    filled: set[int] = field(default_factory=set)
    num_steps: int = 0

    @property
    def unfilled(self) -> Iterator[Branch]:
        """Branches that have masked positions."""
        for number, branch in enumerate(self.branches):
            if number not in self.filled:
                yield branch


class PlainRunner:
    """See `Runner`. Buffers are indexed by cache row: a token lies where its keys and values do."""

    def __init__(
        self,
        model: LladaModel,
        rule: CommitRule,
        *,
        num_rows: int,
        mask_token_id: int,
        refresh_every: int | None,
        is_narrow: bool,
    ) -> None:
        self._rule, self._refresh_every = rule, refresh_every
        self._num_rows, self._mask_token_id = num_rows, mask_token_id
        self._device, self._head_weight = model.head_weight.device, model.head_weight
        self._trunk = PlainTrunk(model, num_rows, is_narrow=is_narrow)
        self._tables = TableStore(model.config.embedding_size, self._device)
        self._reduce = ClassReduction(self._tables)
        self._tokens = torch.zeros(num_rows, dtype=torch.int64, device=self._device)
        self._positions = torch.zeros_like(self._tokens)
        self._confidence = torch.ones(num_rows, device=self._device)
        self._commit_step = torch.zeros_like(self._tokens)
        self._is_open = torch.zeros(num_rows, dtype=torch.bool, device=self._device)
        self._cohorts: list[_Cohort] = []
        self._unread: list[LiveCall] = []
        """Calls whose prompts the next step encodes."""

    def enter(self, calls: Sequence[LiveCall]) -> None:
        """See Runner."""
        if self._refresh_every is None:
            for call in calls:
                self._write(call.run, call.prompt.token_ids, first_position=0)
            self._unread += calls
        branches = [branch for call in calls for branch in call.branches]
        longest = max(branch.run.length for branch in branches)
        places = torch.full((len(branches), longest), self._num_rows, device=self._device)
        for row, branch in zip(places, branches, strict=True):
            row[: branch.run.length] = self._range(branch.run)
            self._write(branch.run, branch.tokens, first_position=branch.call.run.length)
        constraint = ConstraintBatch(
            [branch.scaffold for branch in branches],
            [branch.canvas.start for branch in branches],
            self._num_rows,
            self._tables,
        )
        cohort = _Cohort(list(calls), branches, constraint, constraint.new_state(), places)
        self._cohorts.append(cohort)

    def denoise(self) -> None:
        """See Runner."""
        self._refresh()
        hidden, place = self._forward()
        first = 0
        for cohort in self._cohorts:
            rows = slice(first, first + sum(self._num_masked(branch) for branch in cohort.unfilled))
            first = rows.stop
            if rows.stop > rows.start:
                self._commit(cohort, hidden[rows], place[rows])

    def collect(self) -> tuple[list[FilledCanvas], list[LiveCall]]:
        """See Runner. A cohort's calls leave with its last branch: its constraint looks at the canvases of all."""
        filled, leaving = [], []
        for cohort in self._cohorts:
            for number, branch in enumerate(cohort.branches):
                if number not in cohort.filled and not self._num_masked(branch):
                    cohort.filled.add(number)
                    filled.append(self._read(branch))
            if len(cohort.filled) == len(cohort.branches):
                leaving += cohort.calls
        self._cohorts = [c for c in self._cohorts if len(c.filled) < len(c.branches)]
        return filled, leaving

    def clear(self) -> None:
        """See Runner."""
        self._cohorts.clear()
        self._unread.clear()

    def _write(self, run: Run, tokens: Sequence[int], *, first_position: int) -> None:
        """Put tokens into their rows, all of them open."""
        rows = slice(run.start, run.end)
        self._tokens[rows] = torch.tensor(tokens, device=self._device)
        self._positions[rows] = torch.arange(run.length, device=self._device) + first_position
        self._confidence[rows] = 1.0
        self._commit_step[rows] = 0
        self._is_open[rows] = True

    def _refresh(self) -> None:
        """Open every position of the branches whose prompts are due to be encoded anew."""
        if self._refresh_every is None:
            return
        for cohort in self._cohorts:
            if cohort.num_steps % self._refresh_every == 0:
                for branch in cohort.unfilled:
                    self._is_open[branch.run.start : branch.run.end] = True
            cohort.num_steps += 1

    def _forward(self) -> tuple[Tensor, Tensor]:
        """Hidden states of the masked positions `[num_masked, d_model]`, and their places `[num_masked]`.

        The prompts of new calls are encoded on the way: block by block their keys and values are there before anyone
        looks at them.
        """
        segments = [Segment(call.run.length, (call.run,)) for call in self._unread]
        pieces = [self._range(call.run) for call in self._unread]
        for branch in (branch for cohort in self._cohorts for branch in cohort.unfilled):
            run = branch.run
            open_places = self._range(run)[self._is_open[run.start : run.end]]
            segments.append(Segment(len(open_places), (branch.call.run, run)))
            pieces.append(open_places)
        self._unread.clear()
        places = torch.cat(pieces)
        tokens = self._tokens[places]
        is_masked = tokens == self._mask_token_id
        hidden = self._trunk(tokens, self._positions[places], places, segments, is_masked)
        self._is_open[places] = is_masked
        # A position keeps the number of the last step in which it was masked: that one commits it.
        self._commit_step[places[is_masked]] += 1
        return hidden, places[is_masked]

    def _commit(self, cohort: _Cohort, hidden: Tensor, place: Tensor) -> None:
        """Constrained confidences, the rule's choice, and one legal path per slot."""
        constraint = cohort.constraint
        table = constraint.table_of_place[place]
        reduction = self._reduce(hidden, self._head_weight, table)
        proposal = constraint.propose(reduction, place, self._tokens, cohort.state)
        chosen = self._choose(cohort, proposal.confidence, place)
        constraint.commit(proposal, chosen, self._tokens, self._confidence, cohort.state)

    def _choose(self, cohort: _Cohort, confidence: Tensor, place: Tensor) -> Tensor:
        """The rule's choice among rows `[num_rows]`, taken branch by branch."""
        by_place = torch.zeros(self._num_rows + 1, device=self._device)
        by_place[place] = confidence
        is_masked = F.pad(self._tokens, (0, 1))[cohort.places] == self._mask_token_id
        steps = F.pad(self._commit_step, (0, 1))[cohort.places]
        # This step has been counted already.
        progress = Progress((steps * is_masked).amax(1) - 1, is_masked.sum(1))
        per_branch = by_place[cohort.places]
        chosen = torch.zeros(self._num_rows + 1, dtype=torch.bool, device=self._device)
        chosen[cohort.places] = self._rule.choose(per_branch, per_branch > 0, progress)
        return chosen[place]

    def _read(self, branch: Branch) -> FilledCanvas:
        rows = slice(branch.canvas.start, branch.canvas.end)
        return FilledCanvas(
            branch,
            self._tokens[rows].tolist(),
            self._confidence[rows].tolist(),
            self._commit_step[rows].tolist(),
        )

    def _num_masked(self, branch: Branch) -> int:
        tokens = self._tokens[branch.run.start : branch.run.end]
        return int((tokens == self._mask_token_id).sum())

    def _range(self, run: Run) -> Tensor:
        return torch.arange(run.start, run.end, device=self._device)
