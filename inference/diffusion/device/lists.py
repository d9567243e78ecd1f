"""Lists of numbers that are sent to the device together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.diffusion.structured.table_store import size_class

ALIGNMENT = 4  # numbers: kernels are compiled once for addresses that are multiples of 16 bytes, once for others


def send(device: torch.device, *lists: npt.ArrayLike) -> Tensor:
    """Lists of integers, equally long, as int32 `[num_lists, length]` on the device; the host does not wait."""
    packed = torch.from_numpy(np.stack([np.asarray(one, dtype=np.int32) for one in lists]))
    if device.type != "cuda":
        return packed
    return packed.pin_memory().to(device, non_blocking=True)


class DeviceLists:
    """Named int32 lists in one device buffer, which stays where it is while they fit.

    What lies behind the end of a list is left over and not to be read.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._capacity: dict[str, int] = {}
        self._buffer = torch.empty(0, dtype=torch.int32, device=device)

    def upload(self, lists: Mapping[str, NDArray[np.integer]]) -> bool:
        """Send the lists, each time of the same names; whether they had to move to a buffer twice as large.

        Nothing waits for the device: the copy is made from pinned memory, in the order of the current stream.
        """
        moves = any(values.size > self._capacity.get(name, 0) for name, values in lists.items())
        if moves:
            self._capacity = {
                name: max(self._capacity.get(name, 0), ALIGNMENT * size_class(values.size // 2))
                for name, values in lists.items()
            }
            total = sum(self._capacity.values())
            self._buffer = torch.empty(total, dtype=torch.int32, device=self._device)
        packed = torch.zeros(
            len(self._buffer), dtype=torch.int32, pin_memory=self._device.type == "cuda"
        )
        first = 0
        for name, capacity in self._capacity.items():
            values = lists[name].ravel()
            packed.numpy()[first : first + values.size] = values
            first += capacity
        self._buffer.copy_(packed, non_blocking=True)
        return moves

    def __getitem__(self, name: str) -> Tensor:
        """The list's place in the buffer, as long as it may become before the buffer moves."""
        first = 0
        for other, capacity in self._capacity.items():
            if other == name:
                return self._buffer[first : first + capacity]
            first += capacity
        raise KeyError(name)
