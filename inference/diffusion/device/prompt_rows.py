"""The prompts that a step encodes, packed.

A lone one is filled up to one of few lengths, in buffers that stay where they are, so that its step can be captured.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from inference.diffusion.batch import LiveCall
from inference.diffusion.device.lists import send
from inference.diffusion.device.trunk import Bounds, PackedRows
from inference.diffusion.kernels.naive import OpenRows

MOST_LONE_ROWS = 2_048  # above, launching a step takes less time than the step
LONE_BUCKET = 128  # rows, to which a lone prompt is filled up: 4 % more of 1,500


class PromptRows:
    """Packs prompts for the trunk."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._lone = torch.zeros(3 * MOST_LONE_ROWS, dtype=torch.int32, device=device)
        self._lone_call = torch.zeros(3, 2, dtype=torch.int32, device=device)

    def pack(self, calls: Sequence[LiveCall]) -> PackedRows:
        """The prompts of several calls, which are the same rows in no two steps. The host does not wait."""
        lengths = [call.run.length for call in calls]
        rows = send(self._device, *_rows(calls))
        of_calls = send(
            self._device,
            np.cumsum([0, *lengths]),
            [*(call.run.start for call in calls), 0],
            [*(call.run.end for call in calls), 0],
        )
        return _packed(rows, of_calls, max(lengths))

    def pack_lone(self, call: LiveCall) -> PackedRows:
        """The prompt of one call, of at most MOST_LONE_ROWS tokens, where all lone ones of about its length lie.

        Rows beyond it belong to no call, and their keys and values are not kept.
        """
        length = call.run.length
        bucket = -(-length // LONE_BUCKET) * LONE_BUCKET
        filled_up = np.stack([np.resize(row, bucket) for row in _rows([call])])
        filled_up[2, length:] = -1
        rows = self._lone[: 3 * bucket].view(3, bucket)
        rows.copy_(send(self._device, *filled_up))
        self._lone_call.copy_(
            send(self._device, [0, length], [call.run.start, 0], [call.run.end, 0])
        )
        return _packed(rows, self._lone_call, bucket)


def _packed(rows: Tensor, of_calls: Tensor, longest: int) -> PackedRows:
    """Tokens, positions and places of rows; of each call the first of its rows, and its place in the cache."""
    tokens, positions, places = rows
    offsets, start, end = of_calls
    none = offsets[:0]
    seen = OpenRows(offsets, start[:-1], end[:-1], none, none, none)
    return PackedRows(tokens, positions, places, seen, Bounds(longest, longest))


def _rows(calls: Sequence[LiveCall]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, positions and cache rows of prompts behind each other."""
    tokens = np.array([token for call in calls for token in call.prompt.token_ids])
    positions = np.concatenate([np.arange(call.run.length) for call in calls])
    places = np.concatenate([np.arange(call.run.start, call.run.end) for call in calls])
    return tokens, positions, places
