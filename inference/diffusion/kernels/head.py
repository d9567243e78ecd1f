"""The LM head fused with its reduction: a matrix product whose epilogue keeps three numbers per row and cell.

No logit is written to memory. A program computes a tile of logits in registers and reduces it; `merge` does the rest. A
row's result does not depend on the other rows, as every tile sums in the same order.
"""

# ruff: noqa: N803 -- parameters in capitals are compile-time constants
# mypy: allow-untyped-defs

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from inference.diffusion.kernels.head_merge import (
    Partials,
    merge,
    reduce_cells,
    reduce_whole_tile,
)
from inference.diffusion.kernels.launch import num_programs
from inference.diffusion.kernels.naive import HeadReduction
from inference.diffusion.kernels.vocabulary_layout import VocabularyLayout, plain_layout


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """Tile sizes and schedule of the fused head.

    Attributes:
        rows: of a tile of logits.
        columns: likewise; a divisor of `vocabulary_layout.GRAIN`.
        inner: of `d_model`, per step of the product.
        num_warps: per program.
        num_stages: tiles of both inputs in flight.
    """

    rows: int = 128
    columns: int = 256
    inner: int = 64
    num_warps: int = 8
    num_stages: int = 4


@triton.jit
def _logits_of_tile(
    hidden,
    weight,
    o_row,
    o_column,
    D_MODEL: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
):
    logits = tl.zeros((ROWS, COLUMNS), tl.float32)
    for o_inner in tl.range(0, D_MODEL, INNER):  # float32 is for tests, and is multiplied as such
        b_hidden = hidden.load([o_row, o_inner])
        b_weight = weight.load([o_column, o_inner])
        logits = tl.dot(b_hidden, b_weight.T, logits, input_precision="tf32x3")
    return logits


@triton.jit(do_not_specialize=["num_rows", "num_mixed"])
def head_kernel(
    hidden,
    weight,
    num_rows,
    num_column_tiles,
    num_mixed,
    p_score,
    p_column,
    p_total,
    p_tile_order,
    p_tile_cells,
    p_cell_start,
    p_cell_slot,
    D_MODEL: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    SINGLES: tl.constexpr,
):
    """Tiles of logits to partial results; `hidden` and `weight` are tensor descriptors.

    A program takes tile after tile, those that need masks first, so that loads run ahead into the next one. Row tiles
    vary fastest: programs that run together share a tile of the weight, which is read from memory once.
    """
    partials = (p_score, p_column, p_total)
    num_row_tiles = tl.cdiv(num_rows, ROWS)
    num_mixed_tiles = num_mixed * num_row_tiles
    i_first, num_programs = tl.program_id(0), tl.num_programs(0)
    for i in tl.range(i_first, num_mixed_tiles, num_programs):
        i_tile = tl.load(p_tile_order + i // num_row_tiles)
        o_row, o_column = (i % num_row_tiles) * ROWS, i_tile * COLUMNS
        logits = _logits_of_tile(hidden, weight, o_row, o_column, D_MODEL, ROWS, COLUMNS, INNER)
        i_row = o_row + tl.arange(0, ROWS)
        cells = (p_tile_cells, p_cell_start, p_cell_slot)
        reduce_cells(logits, i_tile, o_column, i_row, num_rows, partials, cells, SINGLES)
    i_first += tl.cdiv(tl.maximum(num_mixed_tiles - i_first, 0), num_programs) * num_programs
    for i in tl.range(i_first, num_column_tiles * num_row_tiles, num_programs, flatten=True):
        i_tile = tl.load(p_tile_order + i // num_row_tiles)
        o_row, o_column = (i % num_row_tiles) * ROWS, i_tile * COLUMNS
        logits = _logits_of_tile(hidden, weight, o_row, o_column, D_MODEL, ROWS, COLUMNS, INNER)
        i_row = o_row + tl.arange(0, ROWS)
        i_slot = tl.load(p_cell_slot + tl.load(p_tile_cells + i_tile))
        reduce_whole_tile(logits, i_slot, o_column, i_row, num_rows, partials)


class FusedHead:
    """The LM head of one checkpoint as a single kernel and a merge.

    Args:
        weight: `[vocab, d_model]`; `d_model` is a multiple of 8.
        layout: of the classes to reduce by; the vocabulary as a whole if not given.
        config: tile sizes; what was fastest for the number of rows if not given.
    """

    def __init__(
        self,
        weight: Tensor,
        layout: VocabularyLayout | None = None,
        config: HeadConfig | None = None,
    ) -> None:
        self.config = config
        self.layout = layout or plain_layout(len(weight), weight.device)
        self.weight = self.layout.order(weight).contiguous()
        self.cells = self.layout.cells((config or HeadConfig()).columns)
        if self.weight.shape[1] * self.weight.element_size() % 16:
            raise ValueError(f"d_model={weight.shape[1]}: rows must be a multiple of 16 bytes")

    def __call__(self, hidden: Tensor, row_table: Tensor | None = None) -> HeadReduction:
        """Reduce the logits of `hidden [num_rows, d_model]`, by the classes of `row_table [num_rows]` if given."""
        num_rows = len(hidden)
        config = self.config or _config_for(hidden)
        partials = Partials.empty(self.cells, num_rows)
        num_column_tiles = len(self.cells.tile_order)
        num_tiles = triton.cdiv(num_rows, config.rows) * num_column_tiles
        head_kernel[(min(num_tiles, num_programs(hidden.device)),)](
            TensorDescriptor.from_tensor(hidden.contiguous(), [config.rows, config.inner]),
            TensorDescriptor.from_tensor(self.weight, [config.columns, config.inner]),
            num_rows,
            num_column_tiles,
            self.cells.num_mixed,
            partials.score,
            partials.column,
            partials.total,
            self.cells.tile_order,
            self.cells.tile_cells,
            self.cells.cell_start,
            self.cells.cell_slot,
            D_MODEL=hidden.shape[1],
            ROWS=config.rows,
            COLUMNS=config.columns,
            INNER=config.inner,
            SINGLES=self.layout.num_groups > 1,
            num_warps=config.num_warps,
            num_stages=config.num_stages,
        )
        return merge(partials, self.cells, self.layout, row_table)


def _config_for(hidden: Tensor) -> HeadConfig:
    """The fastest by `python -m benchmarks.kernels`. All sum in the same order, so a row's bits stay the same."""
    num_rows = len(hidden)
    if hidden.element_size() > 2:  # float32, in tests: what fits the shared memory
        return HeadConfig(rows=64, inner=32, num_stages=2)
    return HeadConfig(rows=64, num_warps=4) if num_rows <= 64 else HeadConfig()
