"""The key-value cache, and its rows, handed out in contiguous runs and taken back."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.diffusion.config import LladaConfig


@dataclass(frozen=True, slots=True)
class Run:
    """`length` consecutive rows from `start`."""

    start: int
    length: int

    @property
    def end(self) -> int:
        """First row after the run."""
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class KVCache:
    """Rotated keys and values, `[n_layers, num_rows, n_kv_heads, head_dim]` each."""

    keys: Tensor
    values: Tensor

    @classmethod
    def empty(
        cls, config: LladaConfig, num_rows: int, dtype: torch.dtype, device: torch.device
    ) -> KVCache:
        """Room for the tokens of a model; nothing is in it yet."""
        shape = (config.n_layers, num_rows, config.n_kv_heads, config.head_dim)
        keys, values = (torch.empty(shape, dtype=dtype, device=device) for _ in range(2))
        return cls(keys, values)


class RowAllocator:
    """First fit over a fixed number of rows; neighbouring free runs are joined when rows come back."""

    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows
        self._free = [Run(0, num_rows)] if num_rows else []

    @property
    def num_free(self) -> int:
        """Rows that are free, in however many runs."""
        return sum(run.length for run in self._free)

    def allocate(self, length: int) -> Run | None:
        """A run of `length` rows, or None when no free run is that long."""
        if not length:
            return Run(0, 0)
        for i, run in enumerate(self._free):
            if run.length >= length:
                rest = Run(run.start + length, run.length - length)
                self._free[i : i + 1] = [rest] if rest.length else []
                return Run(run.start, length)
        return None

    def free(self, run: Run) -> None:
        """Give back a run that `allocate` returned."""
        if not run.length:
            return
        i = bisect.bisect(self._free, run.start, key=lambda other: other.start)
        assert i == 0 or self._free[i - 1].end <= run.start, "rows freed twice"
        assert i == len(self._free) or run.end <= self._free[i].start, "rows freed twice"
        if i < len(self._free) and self._free[i].start == run.end:
            run = Run(run.start, run.length + self._free.pop(i).length)
        if i > 0 and self._free[i - 1].end == run.start:
            before = self._free.pop(i - 1)
            run = Run(before.start, before.length + run.length)
            i -= 1
        self._free.insert(i, run)
