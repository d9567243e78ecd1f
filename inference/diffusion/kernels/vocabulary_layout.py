"""An order of the vocabulary in which tokens that no class table tells apart lie side by side.

The head reduces its logits tile by tile. In this order most tiles hold tokens of one group, and the others of a few, so
that reducing each class costs hardly more than reducing the whole vocabulary, whatever the number of classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GRAIN = 512  # columns; every tile width divides it
NARROW = (
    4  # slots that a group of a few hundred tokens needs; one of tens of thousands has hundreds
)


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Columns cut at tile borders and where the group changes. Each cell is reduced by itself; int32 throughout.

    A cell's result is kept in a slot, and the slots of a group follow each other. Wide groups, those of many slots, are
    merged first, each to a slot of its own behind those of the cells; entries are these and the slots of other groups.

    Attributes:
        tile_order: `[num_tiles]`, the order in which to take tiles: first those of several cells or with columns beyond
            the vocabulary, then those that are one cell as a whole, which need no masks.
        num_mixed: how many of the former there are.
        tile_cells: `[num_tiles + 1]`, first cell of each tile, and the number of cells.
        cell_start: `[num_cells + 1]`, first column of each cell, and the number of columns.
        cell_slot: `[num_cells]`, the slot of each cell.
        wide_start: `[num_wide]`, first slot of each wide group; a group that is alone is wide.
        wide_end: `[num_wide]`, the slot after its last one.
        most_slots: of any group.
        entry_slot: `[num_entries]`, the slot of each entry.
        entry_class: `[num_tables, num_entries]`, its class in each table.
    """

    tile_order: Tensor
    num_mixed: int
    tile_cells: Tensor
    cell_start: Tensor
    cell_slot: Tensor
    wide_start: Tensor
    wide_end: Tensor
    most_slots: int
    entry_slot: Tensor
    entry_class: Tensor

    @property
    def num_slots(self) -> int:
        """Of the cells, and of the groups that are merged first."""
        return len(self.cell_slot) + len(self.wide_start)


@dataclass(frozen=True, slots=True, eq=False)
class VocabularyLayout:
    """Which token each column of the ordered head weight belongs to, and what the tables say of it.

    Attributes:
        column_token: int32 `[vocab]`. Within a group ids ascend.
        column_group: int32 `[vocab]`, which of the groups.
        group_class: int32 `[num_tables, num_groups]`, the class of each group's tokens in each table.
        num_classes: of the largest table.
    """

    column_token: Tensor
    column_group: Tensor
    group_class: Tensor
    num_classes: int

    @property
    def num_groups(self) -> int:
        """How many different rows of classes tokens have."""
        return self.group_class.shape[1]

    def order(self, weight: Tensor) -> Tensor:
        """The head weight `[vocab, d_model]` in column order: itself when nothing moves, else a copy."""
        if self.num_groups == 1:
            return weight
        return weight[self.column_token.long()]

    def cells(self, tile: int) -> Cells:
        """Cut the columns for tiles of `tile` columns."""
        assert GRAIN % tile == 0
        group = self.column_group.cpu().numpy()
        column = np.arange(len(group))
        start = column[(column % tile == 0) | (group != np.roll(group, 1))]
        num_tiles = -(-len(group) // tile)
        tile_cells = np.searchsorted(start, np.arange(num_tiles + 1) * tile)
        is_mixed = (np.diff(tile_cells) > 1) | (np.arange(1, num_tiles + 1) * tile > len(group))
        cell_group = group[start]
        slot = np.empty(len(start), dtype=np.int64)
        slot[np.argsort(cell_group, kind="stable")] = np.arange(len(start))
        num_slots = np.bincount(cell_group, minlength=self.num_groups)
        slot_end = np.cumsum(num_slots)
        is_wide = (num_slots > NARROW) | (self.num_groups == 1)
        wide, is_narrow = np.flatnonzero(is_wide), ~is_wide[cell_group]
        entry_group = np.concatenate([wide, cell_group[is_narrow]])

        def on_device(*parts: NDArray[np.integer] | list[int]) -> Tensor:
            joined = np.concatenate(parts)
            return torch.tensor(joined, dtype=torch.int32, device=self.column_group.device)

        return Cells(
            tile_order=on_device(np.flatnonzero(is_mixed), np.flatnonzero(~is_mixed)),
            num_mixed=int(is_mixed.sum()),
            tile_cells=on_device(tile_cells),
            cell_start=on_device(start, [len(group)]),
            cell_slot=on_device(slot),
            wide_start=on_device((slot_end - num_slots)[wide]),
            wide_end=on_device(slot_end[wide]),
            most_slots=int(num_slots.max()),
            entry_slot=on_device(len(start) + np.arange(len(wide)), slot[is_narrow]),
            entry_class=self.group_class[:, on_device(entry_group)].contiguous(),
        )


def plain_layout(vocab_size: int, device: torch.device) -> VocabularyLayout:
    """The vocabulary as it is: one table with one class."""
    return VocabularyLayout(
        column_token=torch.arange(vocab_size, dtype=torch.int32, device=device),
        column_group=torch.zeros(vocab_size, dtype=torch.int32, device=device),
        group_class=torch.zeros(1, 1, dtype=torch.int32, device=device),
        num_classes=1,
    )


def class_layout(token_class: Tensor, num_classes: int) -> VocabularyLayout:
    """The order for class tables: large groups one after the other, small ones spread evenly over the tiles between.

    Were the small groups kept together, a few tiles would hold dozens of cells and everything would wait for them.

    Args:
        token_class: integer `[num_tables, vocab]`, the class of every token, below `num_classes`.
        num_classes: of the largest table.
    """
    tables = token_class.cpu().numpy().astype(np.int64)
    assert tables.min() >= 0
    assert tables.max() < num_classes
    group = np.zeros(tables.shape[1], dtype=np.int64)
    for table in tables:
        group = np.unique(group * num_classes + table, return_inverse=True)[1].reshape(-1)
    by_group = np.argsort(group, kind="stable")
    pieces = np.split(by_group, np.cumsum(np.bincount(group))[:-1])
    columns = _spread(
        [piece for piece in pieces if len(piece) >= GRAIN],
        [piece for piece in pieces if len(piece) < GRAIN],
    )
    first = np.array([piece[0] for piece in pieces])
    group_class = np.ascontiguousarray(tables[:, first])
    return VocabularyLayout(
        column_token=torch.tensor(columns, dtype=torch.int32, device=token_class.device),
        column_group=torch.tensor(group[columns], dtype=torch.int32, device=token_class.device),
        group_class=torch.tensor(group_class, dtype=torch.int32, device=token_class.device),
        num_classes=num_classes,
    )


def _spread(large: list[NDArray[np.int64]], small: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Tokens column by column: every `GRAIN` columns begin with their share of the small groups."""
    rest = np.concatenate([*large, np.empty(0, dtype=np.int64)])
    num_grains = max(1, -(-(len(rest) + sum(map(len, small))) // GRAIN))
    columns = []
    for grain in range(num_grains):
        share = np.concatenate([*small[grain::num_grains], np.empty(0, dtype=np.int64)])
        room = max(0, GRAIN - len(share))
        columns += [share, rest[:room]]
        rest = rest[room:]
    return np.concatenate([*columns, rest])
