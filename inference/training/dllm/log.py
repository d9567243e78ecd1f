"""The lines of a training run's curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from inference.training.dllm.config import TrainingError
from inference.training.dllm.data import Batch
from inference.training.dllm.state import Progress


class LogWindow:
    """Sums over the steps since the last log line, kept on the device until it is written.

    The sums of a step are one tensor: the loss, per branch the sum of its NLLs, per branch their number.
    """

    def __init__(self, branches: Sequence[str], progress: Progress) -> None:
        self._branches = branches
        self._since_s, self._tokens, self._calls = progress.elapsed_s, 0, 0
        self._skipped = 0
        self._sums: list[Tensor] = []

    def add(self, sums: Tensor, batch: Batch) -> None:
        """Take in one step: what the training step returned, and its batch."""
        self._sums.append(sums)
        self._tokens += batch.num_tokens
        self._calls += batch.num_calls
        self._skipped += batch.num_skipped

    def summary(self, progress: Progress) -> dict[str, Any]:
        """The log line, and a new window. Raises TrainingError when the loss is not finite."""
        sums = torch.stack(self._sums)
        loss, (nll, counts) = sums[:, 0].mean().item(), sums[:, 1:].sum(0).view(2, -1).tolist()
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {progress.step}; lower the learning rates"
            )
        seconds = max(progress.elapsed_s - self._since_s, 1e-9)
        line = {
            "step": progress.step,
            "elapsed_s": round(progress.elapsed_s, 1),
            "loss": round(loss, 4),
            "nll": {
                name: round(total / max(count, 1), 4)
                for name, total, count in zip(self._branches, nll, counts, strict=True)
            },
            "calls": progress.num_calls,
            "tokens": progress.num_tokens,
            "skipped": self._skipped,
            "tokens_per_s": round(self._tokens / seconds),
            "calls_per_s": round(self._calls / seconds, 1),
        }
        self._since_s, self._tokens, self._calls, self._skipped = progress.elapsed_s, 0, 0, 0
        self._sums = []
        return line
