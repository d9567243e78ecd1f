"""The reductions of the LM head: a tile of logits to partial results, and these to the end.

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
    """Partial results, `[num_slots, num_rows]` each."""

    score: Tensor
    column: Tensor
    total: Tensor

    @classmethod
    def empty(cls, cells: Cells, num_rows: int) -> Partials:
        """Room for the slots of `num_rows` rows."""
        shape, device = (cells.num_slots, num_rows), cells.cell_slot.device
        return cls(
            torch.empty(shape, dtype=torch.float32, device=device),
            torch.empty(shape, dtype=torch.int32, device=device),
            torch.empty(shape, dtype=torch.float32, device=device),
        )


@triton.jit
def reduce_whole_tile(logits, i_slot, o_column, i_row, num_rows, partials):
    """Reduce a tile that is one cell. `logits` are float32 `[rows, columns]`, the first column is `o_column`.

    `partials` are pointers to what the class of this name holds. This takes less than half the instructions of
    `reduce_cells`, 3 % of the product's time instead of 8.
    """
    column = (o_column + tl.arange(0, logits.shape[1]))[None, :]
    score = tl.max(logits, 1)
    best = tl.min(tl.where(logits == score[:, None], column, NO_COLUMN), 1)
    total = tl.sum(tl.exp2(logits * LOG2_E - (score * LOG2_E)[:, None]), 1)
    _store_partials(score, best, total, i_slot, i_row, num_rows, partials)


@triton.jit
def reduce_cells(logits, i_tile, o_column, i_row, num_rows, partials, cells, SINGLES: tl.constexpr):
    """Reduce each cell of a tile; `cells` are pointers to what the class of this name holds.

    `SINGLES`: many cells have one column, which can be had for less.
    """
    p_tile_cells, p_cell_start, p_cell_slot = cells
    column = (o_column + tl.arange(0, logits.shape[1]))[None, :]
    last = tl.load(p_tile_cells + i_tile + 1)
    for i_cell in range(tl.load(p_tile_cells + i_tile), last):
        start = tl.load(p_cell_start + i_cell)
        end = tl.load(p_cell_start + i_cell + 1)
        if SINGLES and end == start + 1:
            score = tl.sum(tl.where(column == start, logits, 0.0), 1)
            best = tl.zeros_like(i_row) + start
            total = tl.full(i_row.shape, 1.0, tl.float32)
        else:
            inside = (column >= start) & (column < end)
            # `logits` is masked anew for each use, and not scaled by itself: a tile of 128 x 256 fills half the
            # registers, so another tile, kept beside it or moved out of this loop by the compiler, would spill.
            score = tl.max(tl.where(inside, logits, float("-inf")), 1)
            is_best = inside & (logits == score[:, None])
            best = tl.min(tl.where(is_best, column, NO_COLUMN), 1)
            spread = tl.exp2((logits - score[:, None]) * LOG2_E)
            total = tl.sum(tl.where(inside, spread, 0.0), 1)
        i_slot = tl.load(p_cell_slot + i_cell)
        _store_partials(score, best, total, i_slot, i_row, num_rows, partials)


@triton.jit
def _store_partials(score, best, total, i_slot, i_row, num_rows, partials):
    p_score, p_column, p_total = partials
    m_row = i_row < num_rows
    o_out = i_slot * num_rows + i_row
    tl.store(p_score + o_out, score, mask=m_row)
    tl.store(p_column + o_out, best, mask=m_row)
    tl.store(p_total + o_out, total, mask=m_row)


@triton.jit(do_not_specialize=["num_rows"])
def merge_slots_kernel(
    p_score,
    p_column,
    p_total,
    p_wide_start,
    p_wide_end,
    p_column_token,
    p_row_score,
    p_row_token,
    p_row_lse,
    num_rows,
    num_cells,
    IS_LAST: tl.constexpr,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """The slots of a wide group to one: the results of the rows if `IS_LAST`, else one more slot."""
    i_row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    i_wide = tl.program_id(1)
    m_row = i_row < num_rows
    score = tl.full((ROWS,), float("-inf"), tl.float32)
    column = tl.full((ROWS,), NO_COLUMN, tl.int32)
    total = tl.zeros((ROWS,), tl.float32)
    last = tl.load(p_wide_end + i_wide)
    for o_slot in range(tl.load(p_wide_start + i_wide), last, SLOTS):
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
    if IS_LAST:
        m_known = m_row & (column != NO_COLUMN)  # NaN has no best column
        token = tl.load(p_column_token + column, mask=m_known, other=-1)
        tl.store(p_row_score + i_row, score, mask=m_row)
        tl.store(p_row_token + i_row, token, mask=m_row)
        tl.store(p_row_lse + i_row, score + tl.log2(total) / LOG2_E, mask=m_row)
    else:
        o_out = (num_cells + i_wide) * num_rows + i_row
        tl.store(p_score + o_out, score, mask=m_row)
        tl.store(p_column + o_out, column, mask=m_row)
        tl.store(p_total + o_out, total, mask=m_row)


@triton.jit(do_not_specialize=["num_rows"])
def merge_entries_kernel(
    p_score,
    p_column,
    p_total,
    p_entry_slot,
    p_entry_class,
    p_column_token,
    p_row_table,
    p_class_score,
    p_class_token,
    p_class_lse,
    p_row_lse,
    num_rows,
    num_entries,
    num_classes,
    ENTRIES: tl.constexpr,
    CLASSES: tl.constexpr,
):
    """Entries to the classes of the row's table: one program per row and block of classes."""
    i_row = tl.program_id(0)
    i_class = tl.program_id(1) * CLASSES + tl.arange(0, CLASSES)
    o_table = tl.load(p_row_table + i_row) * num_entries
    score = tl.full((CLASSES,), float("-inf"), tl.float32)
    token = tl.full((CLASSES,), NO_COLUMN, tl.int32)
    total = tl.zeros((CLASSES,), tl.float32)
    row_score = tl.max(tl.full((ENTRIES,), float("-inf"), tl.float32), 0)
    row_total = tl.sum(tl.zeros((ENTRIES,), tl.float32), 0)
    for o_entry in range(0, num_entries, ENTRIES):
        i_entry = o_entry + tl.arange(0, ENTRIES)
        m_entry = i_entry < num_entries
        o_in = tl.load(p_entry_slot + i_entry, mask=m_entry, other=0) * num_rows + i_row
        b_score = tl.load(p_score + o_in, mask=m_entry, other=float("-inf"))
        b_column = tl.load(p_column + o_in, mask=m_entry, other=0)
        m_known = m_entry & (b_column != NO_COLUMN)  # NaN has no best column
        b_token = tl.load(p_column_token + b_column, mask=m_known, other=NO_COLUMN)
        b_total = tl.load(p_total + o_in, mask=m_entry, other=0.0)
        b_class = tl.load(p_entry_class + o_table + i_entry, mask=m_entry, other=-1)

        hit = b_class[:, None] == i_class[None, :]
        higher = tl.maximum(score, tl.max(tl.where(hit, b_score[:, None], float("-inf")), 0))
        is_best = hit & (b_score[:, None] == higher[None, :])
        b_best = tl.min(tl.where(is_best, b_token[:, None], NO_COLUMN), 0)
        token = tl.minimum(tl.where(score == higher, token, NO_COLUMN), b_best)
        base = tl.where(higher == float("-inf"), 0.0, higher)
        spread = b_total[:, None] * tl.exp2((b_score[:, None] - base[None, :]) * LOG2_E)
        total *= tl.exp2((score - base) * LOG2_E)
        total += tl.sum(tl.where(hit, spread, 0.0), 0)
        score = higher

        row_higher = tl.maximum(row_score, tl.max(b_score, 0))
        row_total *= tl.exp2((row_score - row_higher) * LOG2_E)
        row_total += tl.sum(b_total * tl.exp2((b_score - row_higher) * LOG2_E), 0)
        row_score = row_higher
    o_out = i_row * num_classes + i_class
    m_class = i_class < num_classes
    tl.store(p_class_score + o_out, score, mask=m_class)
    tl.store(p_class_token + o_out, tl.where(token == NO_COLUMN, -1, token), mask=m_class)
    tl.store(p_class_lse + o_out, score + tl.log2(total) / LOG2_E, mask=m_class)
    if tl.program_id(1) == 0:
        tl.store(p_row_lse + i_row, row_score + tl.log2(row_total) / LOG2_E)


def merge(
    partials: Partials, cells: Cells, layout: VocabularyLayout, row_table: Tensor | None
) -> HeadReduction:
    """Merge partial results to one per row, or with `row_table` (integer `[num_rows]`) to one per row and class."""
    if row_table is None:
        assert layout.num_groups == 1, "a layout with classes needs the table of each row"
        return _merge_slots(partials, cells, layout, is_last=True)
    if len(cells.wide_start):
        _merge_slots(partials, cells, layout, is_last=False)
    num_rows, num_classes = partials.score.shape[1], layout.num_classes
    num_entries = len(cells.entry_slot)
    device = partials.score.device
    result = HeadReduction(
        score=torch.empty(num_rows, num_classes, dtype=torch.float32, device=device),
        token=torch.empty(num_rows, num_classes, dtype=torch.int32, device=device),
        lse=torch.empty(num_rows, num_classes, dtype=torch.float32, device=device),
        row_lse=torch.empty(num_rows, dtype=torch.float32, device=device),
    )
    block = min(triton.next_power_of_2(num_classes), 64)
    merge_entries_kernel[num_rows, triton.cdiv(num_classes, block)](
        partials.score,
        partials.column,
        partials.total,
        cells.entry_slot,
        cells.entry_class,
        layout.column_token,
        row_table,
        result.score,
        result.token,
        result.lse,
        result.row_lse,
        num_rows,
        num_entries,
        num_classes,
        ENTRIES=min(triton.next_power_of_2(num_entries), 64),
        CLASSES=block,
    )
    return result


def _merge_slots(
    partials: Partials, cells: Cells, layout: VocabularyLayout, *, is_last: bool
) -> HeadReduction:
    """The results of the rows if `is_last`; else nothing that is to be used."""
    num_rows = partials.score.shape[1]
    score = partials.score.new_empty(num_rows)
    token = partials.column.new_empty(num_rows)
    lse = torch.empty_like(score)
    grid = (triton.cdiv(num_rows, MERGE_ROWS), len(cells.wide_start))
    merge_slots_kernel[grid](
        partials.score,
        partials.column,
        partials.total,
        cells.wide_start,
        cells.wide_end,
        layout.column_token,
        score,
        token,
        lse,
        num_rows,
        len(cells.cell_slot),
        IS_LAST=is_last,
        ROWS=MERGE_ROWS,
        SLOTS=min(triton.next_power_of_2(cells.most_slots), MAX_MERGE_SLOTS),
        num_warps=8,
    )
    return HeadReduction(score, token, lse, lse)
