"""Commit rules: which open positions of a branch are fixed in this step.

Each rule is a function of one branch's confidences; at least one position is always chosen, so every branch ends. The
names and formulas are those of the literature: quota (LLaDA), threshold and factor (Fast-dLLM, arXiv 2505.22618). How
they compare: `docs/commit-rules.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Progress:
    """How far branches are, for rules that count steps; integer `[num_branches]` each.

    Attributes:
        step: steps that each branch has behind it.
        num_masked: its masked positions, those included that may not be committed yet.
    """

    step: Tensor
    num_masked: Tensor


class CommitRule(Protocol):
    """Chooses positions to commit."""

    def choose(
        self, confidence: Tensor, is_open: Tensor, progress: Progress | None = None
    ) -> Tensor:
        """What to commit.

        Args:
            confidence: float `[num_branches, length]`, the probability of the best token at each position.
            is_open: bool `[num_branches, length]`, positions that are masked and may be committed.
            progress: of the branches; most rules do not ask.

        Returns:
            Bool `[num_branches, length]`, a subset of `is_open` with at least one position per branch that has any.
        """


@dataclass(frozen=True, slots=True)
class Threshold:
    """Every position at or above `value`, and always the best one."""

    value: float = 0.9

    def choose(
        self, confidence: Tensor, is_open: Tensor, progress: Progress | None = None
    ) -> Tensor:
        """See CommitRule."""
        open_confidence = confidence.masked_fill(~is_open, -1.0)
        best = _one_hot_argmax(open_confidence)
        return ((open_confidence >= self.value) | best) & is_open


@dataclass(frozen=True, slots=True)
class Quota:
    """The `count` best positions, whatever their confidence.

    With `num_steps` it is not `count`: the masked positions of each branch are spread evenly over that many steps, the
    remainder over the first ones, as LLaDA's `generate` does. What else was committed is taken off the later steps.
    """

    count: int = 1
    num_steps: int | None = None

    def choose(
        self, confidence: Tensor, is_open: Tensor, progress: Progress | None = None
    ) -> Tensor:
        """See CommitRule. With `num_steps`, the progress is needed."""
        rank = _rank(confidence.masked_fill(~is_open, -1.0))
        if self.num_steps is None:
            return (rank < self.count) & is_open
        assert progress is not None
        num_left = (self.num_steps - progress.step).clamp_min(1)
        count = (progress.num_masked + num_left - 1) // num_left
        return (rank < count[:, None]) & is_open


@dataclass(frozen=True, slots=True)
class Factor:
    """The largest n for which the n-th best confidence is at least 1 - `value` / (n + 1), and always the best one."""

    value: float = 1.0

    def choose(
        self, confidence: Tensor, is_open: Tensor, progress: Progress | None = None
    ) -> Tensor:
        """See CommitRule."""
        open_confidence = confidence.masked_fill(~is_open, -1.0)
        rank = _rank(open_confidence)
        sorted_confidence = open_confidence.sort(dim=1, descending=True).values
        place = torch.arange(1, confidence.shape[1] + 1, device=confidence.device)
        holds = sorted_confidence >= 1 - self.value / (place + 1)
        count = holds.long().cumprod(1).sum(1, keepdim=True).clamp(min=1)
        return (rank < count) & is_open


@dataclass(frozen=True, slots=True)
class Joint:
    """The largest n whose chance to be right together is above `value` at the least, and always the best one.

    The least chance is the sum of the n best confidences minus n - 1 (Fréchet): it holds however errors depend on each
    other.
    """

    value: float = 0.5

    def choose(
        self, confidence: Tensor, is_open: Tensor, progress: Progress | None = None
    ) -> Tensor:
        """See CommitRule."""
        doubt, rank = _doubt_and_rank(confidence, is_open)
        count = (doubt.cumsum(1) < 1 - self.value).sum(1, keepdim=True).clamp(min=1)
        return (rank < count) & is_open


@dataclass(frozen=True, slots=True)
class Doubt:
    """The largest n of which all but the least sure are doubted (1 - confidence) by at most `value` together.

    Committing several positions at once ignores what they would tell each other. What is sure tells nothing, so one
    unsure position beside any number of sure ones loses nothing against committing it alone: a step takes all that is
    sure and one more. The same bound with entropies is that of the entropy-bounded sampler (arXiv 2505.24857).
    """

    value: float = 0.1

    def choose(
        self, confidence: Tensor, is_open: Tensor, progress: Progress | None = None
    ) -> Tensor:
        """See CommitRule."""
        doubt, rank = _doubt_and_rank(confidence, is_open)
        count = (doubt.cumsum(1) <= self.value).sum(1, keepdim=True) + 1
        return (rank < count) & is_open


def _doubt_and_rank(confidence: Tensor, is_open: Tensor) -> tuple[Tensor, Tensor]:
    """Doubts from the least, infinite where nothing is open, and the place of each position among them."""
    open_confidence = confidence.masked_fill(~is_open, -torch.inf)
    return 1 - open_confidence.sort(dim=1, descending=True).values, _rank(open_confidence)


def _one_hot_argmax(confidence: Tensor) -> Tensor:
    best = torch.zeros_like(confidence, dtype=torch.bool)
    return best.scatter(1, confidence.argmax(1, keepdim=True), True)


def _rank(confidence: Tensor) -> Tensor:
    """Place of each position in its branch, 0 for the best; ties go to the earlier position."""
    order = confidence.argsort(dim=1, descending=True, stable=True)
    place = torch.arange(confidence.shape[1], device=confidence.device).expand_as(order)
    return torch.empty_like(order).scatter(1, order, place)
