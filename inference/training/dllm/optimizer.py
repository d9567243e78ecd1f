"""Muon for the matrices of the blocks, AdamW for everything else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

MUON_MOMENTUM = 0.95
NEWTON_SCHULZ_STEPS = 5
NEWTON_SCHULZ = (
    3.4445,
    -4.7750,
    2.0315,
)  # quintic that pushes singular values to about 1 (Jordan et al., 2024)
ADAM_BETAS = (0.9, 0.95)


class DllmOptimizer:
    """Both optimisers under one schedule. Matrices of equal shape are orthogonalised together, as one batch."""

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        *,
        matrix_lr: float,
        other_lr: float,
        weight_decay: float,
    ) -> None:
        by_shape: defaultdict[torch.Size, list[Tensor]] = defaultdict(list)
        for parameter in matrices:
            by_shape[parameter.shape].append(parameter)
        self._groups = list(by_shape.values())
        self._momenta = [torch.zeros_like(torch.stack(list(group))) for group in self._groups]
        self._others = list(others)
        wide = [parameter for parameter in self._others if parameter.dim() >= 2]
        gains = [parameter for parameter in self._others if parameter.dim() < 2]
        decays = ((wide, weight_decay), (gains, 0.0))
        self._adam = torch.optim.AdamW(
            [{"params": group, "weight_decay": decay} for group, decay in decays if group],
            lr=other_lr,
            betas=ADAM_BETAS,
        )
        self._matrix_lr, self._other_lr, self._weight_decay = matrix_lr, other_lr, weight_decay

    @property
    def parameters(self) -> list[Tensor]:
        """Every parameter that is trained."""
        return [*self._others, *(parameter for group in self._groups for parameter in group)]

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """One update with both learning rates multiplied by `scale`; gradients are dropped."""
        for group, momentum in zip(self._groups, self._momenta, strict=True):
            gradients = torch.stack([_gradient(parameter) for parameter in group])
            momentum.lerp_(gradients, 1 - MUON_MOMENTUM)
            update = orthogonalise(gradients.lerp(momentum, MUON_MOMENTUM))
            rows, columns = group[0].shape
            lr = self._matrix_lr * scale
            torch._foreach_mul_(group, 1 - lr * self._weight_decay)
            step_size = lr * max(1.0, rows / columns) ** 0.5
            torch._foreach_add_(group, list(update.to(gradients.dtype).unbind()), alpha=-step_size)
        for adam_group in self._adam.param_groups:
            adam_group["lr"] = self._other_lr * scale
        self._adam.step()
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on exactly."""
        return {"momenta": self._momenta, "adam": self._adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state of the same model."""
        for momentum, saved in zip(self._momenta, state["momenta"], strict=True):
            momentum.copy_(saved)
        self._adam.load_state_dict(state["adam"])


def orthogonalise(matrices: Tensor) -> Tensor:
    """The nearest orthogonal matrices of `[count, rows, columns]`, roughly, in bfloat16 (Newton-Schulz)."""
    a, b, c = NEWTON_SCHULZ
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
