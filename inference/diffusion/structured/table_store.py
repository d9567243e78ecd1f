"""The tables of slots on the device, where rows of logits are reduced by them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from inference.diffusion.structured.slots import SlotTable


def size_class(size: int) -> int:
    """The smallest of 3, 4, 6, 8, 12, 16 … that holds `size`: few shapes, at most half as much again."""
    power = 1 << max(2, (size - 1).bit_length())
    return power * 3 // 4 if size <= power * 3 // 4 else power


class TableStore:
    """The token classes of all tables in use, on the device; every table gets a number."""

    def __init__(self, num_tokens: int, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.num_classes = 1
        self.token_class = torch.zeros((0, num_tokens), dtype=torch.int16, device=self.device)
        self._numbers: dict[int, int] = {}
        self._tables: list[SlotTable] = []

    def add(self, tables: Sequence[SlotTable]) -> None:
        """Number the tables that are new; `token_class` (`[num_tables, num_tokens]` int16) gets their rows."""
        new = [table for table in dict.fromkeys(tables) if id(table) not in self._numbers]
        if not new:
            return
        rows = np.zeros((len(new), self.token_class.shape[1]), dtype=np.int16)
        for row, table in zip(rows, new, strict=True):
            self._numbers[id(table)] = len(self._tables)
            self._tables.append(table)
            row[: len(table.token_class)] = table.token_class
            num_classes = size_class(int(table.token_class.max()) + 1)
            self.num_classes = max(self.num_classes, num_classes)
        self.token_class = torch.cat([self.token_class, torch.from_numpy(rows).to(self.device)])

    def number(self, table: SlotTable) -> int:
        """The row of `table` in `token_class`."""
        return self._numbers[id(table)]
