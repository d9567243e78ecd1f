"""The reductions that both LM heads share: a tile of logits to partial results, and these to the end.

A partial result is the largest logit of a cell, its column, and the sum of exponentials relative to it.
"""

# ruff: noqa: N803 -- parameters in capitals are compile-time constants
# mypy: allow-untyped-defs

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference.diffusion.kernels.naive import HeadReduction
from inference.diffusion.kernels.vocabulary_layout import Cells, VocabularyLayout

NO_COLUMN = tl.constexpr(2**31 - 1)
LOG2_E = tl.constexpr(1.4426950408889634)
MERGE_ROWS = 8  # a full 32-byte sector of each partial
MAX_MERGE_SLOTS = 1024  # 126,464 columns in tiles of 128 are 988: one pass, all loads in flight


@dataclass(frozen=True, slots=True)
class Partials:
    """Partial results, `[num_cells, num_rows]` each."""

    score: Tensor
    column: Tensor
    total: Tensor

    @classmethod
    def empty(cls, cells: Cells, num_rows: int) -> Partials:
        """Room for the cells of `num_rows` rows."""
        shape, device = (len(cells.cell_slot), num_rows), cells.cell_slot.device
        return cls(
            torch.empty(shape, dtype=torch.float32, device=device),
            torch.empty(shape, dtype=torch.int32, device=device),
            torch.empty(shape, dtype=torch.float32, device=device),
        )


@triton.jit
def reduce_tile(
    logits,
    i_tile,
    o_column,
    i_row,
    num_rows,
    p_score,
    p_column,
    p_total,
    p_tile_cells,
    p_cell_start,
    p_cell_slot,
):
    """Reduce each cell of a tile. `logits` are float32 `[rows, columns]`, the first column is `o_column`."""
    column = (o_column + tl.arange(0, logits.shape[1]))[None, :]
    m_row = i_row < num_rows
    last = tl.load(p_tile_cells + i_tile + 1)
    for i_cell in range(tl.load(p_tile_cells + i_tile), last):
        start = tl.load(p_cell_start + i_cell)
        end = tl.load(p_cell_start + i_cell + 1)
        inside = (column >= start) & (column < end)
        # `logits` is masked anew for each use, and not scaled by itself: a tile of 128 x 256 fills half the registers,
        # so another tile, kept beside it or moved out of this loop by the compiler, would spill.
        score = tl.max(tl.where(inside, logits, float("-inf")), 1)
        is_best = inside & (logits == score[:, None])
        best = tl.min(tl.where(is_best, column, NO_COLUMN), 1)
        spread = tl.exp2((logits - score[:, None]) * LOG2_E)
        total = tl.sum(tl.where(inside, spread, 0.0), 1)
        o_out = tl.load(p_cell_slot + i_cell) * num_rows + i_row
        tl.store(p_score + o_out, score, mask=m_row)
        tl.store(p_column + o_out, best, mask=m_row)
        tl.store(p_total + o_out, total, mask=m_row)


@triton.jit(do_not_specialize=["num_rows"])
def merge_slots_kernel(
    p_score,
    p_column,
    p_total,
    p_group_slots,
    p_column_token,
    p_group_score,
    p_group_token,
    p_group_lse,
    num_rows,
    num_groups,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """Slots of one group to its score, token and log-sum-exp, `[num_rows, num_groups]`."""
    i_row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    i_group = tl.program_id(1)
    m_row = i_row < num_rows
    score = tl.full((ROWS,), float("-inf"), tl.float32)
    column = tl.full((ROWS,), NO_COLUMN, tl.int32)
    total = tl.zeros((ROWS,), tl.float32)
    last = tl.load(p_group_slots + i_group + 1)
    for o_slot in range(tl.load(p_group_slots + i_group), last, SLOTS):
        i_slot = o_slot + tl.arange(0, SLOTS)
        o_in = i_slot[:, None] * num_rows + i_row[None, :]
        m_in = (i_slot < last)[:, None] & m_row[None, :]
        b_score = tl.load(p_score + o_in, mask=m_in, other=float("-inf"))
        b_column = tl.load(p_column + o_in, mask=m_in, other=NO_COLUMN)
        b_total = tl.load(p_total + o_in, mask=m_in, other=0.0)
        higher = tl.maximum(score, tl.max(b_score, 0))
        b_best = tl.min(tl.where(b_score == higher[None, :], b_column, NO_COLUMN), 0)
        # Columns ascend from slot to slot, so an equal score found earlier stays.
        column = tl.where(score == higher, column, b_best)
        scaled = b_total * tl.exp2((b_score - higher[None, :]) * LOG2_E)
        total = total * tl.exp2((score - higher) * LOG2_E) + tl.sum(tl.where(m_in, scaled, 0.0), 0)
        score = higher
    o_out = i_row * num_groups + i_group
    token = tl.load(p_column_token + column, mask=m_row & (column != NO_COLUMN), other=-1)
    tl.store(p_group_score + o_out, score, mask=m_row)
    tl.store(p_group_token + o_out, token, mask=m_row)
    tl.store(p_group_lse + o_out, score + tl.log2(total) / LOG2_E, mask=m_row)


@triton.jit
def merge_groups_kernel(
    p_group_score,
    p_group_token,
    p_group_lse,
    p_group_class,
    p_row_table,
    p_score,
    p_token,
    p_lse,
    p_row_lse,
    num_groups,
    num_classes,
    GROUPS: tl.constexpr,
    CLASSES: tl.constexpr,
):
    """Groups to the classes of the row's table: one program per row and block of classes."""
    i_row = tl.program_id(0)
    i_class = tl.program_id(1) * CLASSES + tl.arange(0, CLASSES)
    table = tl.load(p_row_table + i_row)
    score = tl.full((CLASSES,), float("-inf"), tl.float32)
    token = tl.full((CLASSES,), NO_COLUMN, tl.int32)
    total = tl.zeros((CLASSES,), tl.float32)
    row_score = tl.max(tl.full((GROUPS,), float("-inf"), tl.float32), 0)
    row_total = tl.sum(tl.zeros((GROUPS,), tl.float32), 0)
    for o_group in range(0, num_groups, GROUPS):
        i_group = o_group + tl.arange(0, GROUPS)
        m_group = i_group < num_groups
        o_in = i_row * num_groups + i_group
        b_score = tl.load(p_group_score + o_in, mask=m_group, other=float("-inf"))
        b_token = tl.load(p_group_token + o_in, mask=m_group, other=NO_COLUMN)
        b_lse = tl.load(p_group_lse + o_in, mask=m_group, other=float("-inf"))
        b_class = tl.load(p_group_class + table * num_groups + i_group, mask=m_group, other=-1)

        hit = b_class[:, None] == i_class[None, :]
        higher = tl.maximum(score, tl.max(tl.where(hit, b_score[:, None], float("-inf")), 0))
        is_best = hit & (b_score[:, None] == higher[None, :])
        b_best = tl.min(tl.where(is_best, b_token[:, None], NO_COLUMN), 0)
        token = tl.minimum(tl.where(score == higher, token, NO_COLUMN), b_best)
        base = tl.where(higher == float("-inf"), 0.0, higher)
        spread = tl.where(hit, tl.exp2((b_lse[:, None] - base[None, :]) * LOG2_E), 0.0)
        total = total * tl.exp2((score - base) * LOG2_E) + tl.sum(spread, 0)
        score = higher

        row_higher = tl.maximum(row_score, tl.max(b_score, 0))
        row_total *= tl.exp2((row_score - row_higher) * LOG2_E)
        row_total += tl.sum(tl.exp2((b_lse - row_higher) * LOG2_E), 0)
        row_score = row_higher
    o_out = i_row * num_classes + i_class
    m_class = i_class < num_classes
    tl.store(p_score + o_out, score, mask=m_class)
    tl.store(p_token + o_out, tl.where(token == NO_COLUMN, -1, token), mask=m_class)
    tl.store(p_lse + o_out, score + tl.log2(total) / LOG2_E, mask=m_class)
    if tl.program_id(1) == 0:
        tl.store(p_row_lse + i_row, row_score + tl.log2(row_total) / LOG2_E)


def merge(
    partials: Partials, cells: Cells, layout: VocabularyLayout, row_table: Tensor | None
) -> HeadReduction:
    """Merge partial results to one per row, or with `row_table` (int32 `[num_rows]`) to one per row and class."""
    num_rows, num_groups = partials.score.shape[1], layout.num_groups
    group_score = partials.score.new_empty(num_rows, num_groups)
    group_token = partials.column.new_empty(num_rows, num_groups)
    group_lse = torch.empty_like(group_score)
    merge_slots_kernel[triton.cdiv(num_rows, MERGE_ROWS), num_groups](
        partials.score,
        partials.column,
        partials.total,
        cells.group_slots,
        layout.column_token,
        group_score,
        group_token,
        group_lse,
        num_rows,
        num_groups,
        ROWS=MERGE_ROWS,
        SLOTS=min(triton.next_power_of_2(cells.most_slots), MAX_MERGE_SLOTS),
        num_warps=8,
    )
    if row_table is None:
        assert num_groups == 1, "a layout with classes needs the table of each row"
        return HeadReduction(group_score[:, 0], group_token[:, 0], group_lse[:, 0], group_lse[:, 0])
    score = group_score.new_empty(num_rows, layout.num_classes)
    token = group_token.new_empty(num_rows, layout.num_classes)
    lse = torch.empty_like(score)
    row_lse = score.new_empty(num_rows)
    num_columns = min(triton.next_power_of_2(layout.num_classes), 64)
    merge_groups_kernel[num_rows, triton.cdiv(layout.num_classes, num_columns)](
        group_score,
        group_token,
        group_lse,
        layout.group_class,
        row_table,
        score,
        token,
        lse,
        row_lse,
        num_groups,
        layout.num_classes,
        GROUPS=min(triton.next_power_of_2(num_groups), 64),
        CLASSES=num_columns,
    )
    return HeadReduction(score, token, lse, row_lse)
