"""What the slot constraint computes, in plain PyTorch: fixed shapes, no host sync; the truth for kernels.

Shapes: S slots, L positions of a slot, Q states, C token classes. State 0 is dead, 1 the start. Positions with `valid`
False lie beyond a slot's end and change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_START = 1


@dataclass(frozen=True, slots=True)
class SlotMarginals:
    """Forward-backward over slots.

    Attributes:
        transfer: `[S, L, C]` float32, log of the summed weight of all accepting paths through the class at the
            position, without the position's own score; -inf exactly where the class is illegal.
        log_total: `[S]` float32, log of the summed weight of all accepting paths.
    """

    transfer: Tensor
    log_total: Tensor


def slot_marginals(
    scores: Tensor, transitions: Tensor, accepting: Tensor, valid: Tensor
) -> SlotMarginals:
    """Sum-product over the paths of every slot's automaton.

    Args:
        scores: `[S, L, C]` float32 log-weights; -inf forbids a class.
        transitions: `[S, Q, C]` int64.
        accepting: `[S, Q]` bool.
        valid: `[S, L]` bool.
    """
    num_slots, num_positions, num_classes = scores.shape
    flat = transitions.flatten(1)
    alive = flat != 0
    forward = _start_weights(transitions)
    forwards = []
    for i in range(num_positions):
        forwards.append(forward)
        edges = (forward[:, :, None] + scores[:, i, None, :]).flatten(1)
        after = _scatter_logsumexp(edges.where(alive, -torch.inf), flat, transitions.shape[1])
        forward = torch.where(valid[:, i, None], after, forward)
    backward = _end_weights(accepting)
    transfer = scores.new_full((num_slots, num_positions, num_classes), -torch.inf)
    for i in reversed(range(num_positions)):
        onward = backward.gather(1, flat).where(alive, -torch.inf).view_as(transitions)
        transfer[:, i] = torch.logsumexp(forwards[i][:, :, None] + onward, dim=1)
        before = torch.logsumexp(scores[:, i, None, :] + onward, dim=2)
        backward = torch.where(valid[:, i, None], before, backward)
    return SlotMarginals(transfer, backward[:, _START])


def best_path(scores: Tensor, transitions: Tensor, accepting: Tensor, valid: Tensor) -> Tensor:
    """Viterbi: the classes `[S, L]` int64 of an accepting path of greatest weight; 0 beyond a slot's end.

    Arguments as for `slot_marginals`. A class with score 0 is free. Of equal paths the one with the lowest class at the
    first position that differs is taken.
    """
    num_slots, num_positions, _ = scores.shape
    flat = transitions.flatten(1)
    alive = flat != 0
    onward = _end_weights(accepting)
    best_class = torch.zeros(
        (num_slots, num_positions, transitions.shape[1]), dtype=torch.int64, device=scores.device
    )
    for i in reversed(range(num_positions)):
        edges = onward.gather(1, flat).where(alive, -torch.inf).view_as(transitions)
        best, best_class[:, i] = (edges + scores[:, i, None, :]).max(dim=2)
        onward = torch.where(valid[:, i, None], best, onward)
    state = torch.full((num_slots, 1), _START, device=scores.device)
    path = torch.zeros((num_slots, num_positions), dtype=torch.int64, device=scores.device)
    for i in range(num_positions):
        chosen = best_class[:, i].gather(1, state)
        following = flat.gather(1, state * transitions.shape[2] + chosen)
        path[:, i] = torch.where(valid[:, i], chosen[:, 0], 0)
        state = torch.where(valid[:, i, None], following, state)
    return path


def choice_scores(maximum: Tensor, choice_class: Tensor, counted: Tensor) -> Tensor:
    """Log-probability of every choice of a finite slot: `[S, num_choices]` float32.

    Args:
        maximum: `[S, L, C]` float32 log-probability of the single token of every class.
        choice_class: `[S, num_choices, L]` int64.
        counted: `[S, L]` bool, positions that count.
    """
    total = maximum.new_zeros(choice_class.shape[:2])
    for i in range(maximum.shape[1]):
        of_choice = maximum[:, i].gather(1, choice_class[:, :, i])
        total = torch.where(counted[:, i, None], total + of_choice, total)
    return total


def _start_weights(transitions: Tensor) -> Tensor:
    weights = torch.full(transitions.shape[:2], -torch.inf, device=transitions.device)
    weights[:, _START] = 0
    return weights


def _end_weights(accepting: Tensor) -> Tensor:
    zero = torch.zeros(accepting.shape, device=accepting.device)
    return zero.where(accepting, -torch.inf)


def _scatter_logsumexp(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Log of summed exponentials of `values` `[S, M]` by `index` `[S, M]`: `[S, size]`."""
    top = values.new_full((len(values), size), -torch.inf).scatter_reduce_(1, index, values, "amax")
    shift = top.where(top.isfinite(), 0)
    summed = torch.zeros_like(top).scatter_add_(1, index, (values - shift.gather(1, index)).exp())
    return shift + summed.log()
