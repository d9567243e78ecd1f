"""The LM head fused with its reduction: a matrix product whose epilogue keeps three numbers per row and cell.

No logit is written to memory. A program computes a tile of logits in registers and reduces it (`reduce_tile`); `merge`
does the rest. A row's result does not depend on the other rows, as every tile sums in the same order.
"""

# ruff: noqa: N803 -- parameters in capitals are compile-time constants
# mypy: allow-untyped-defs

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from inference.diffusion.kernels.head_merge import Partials, merge, reduce_tile
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
        persistent: one program per multiprocessor takes tile after tile, so that loads run ahead into the next one.
    """

    rows: int = 128
    columns: int = 256
    inner: int = 64
    num_warps: int = 8
    num_stages: int = 4
    persistent: bool = False


@triton.jit
def _reduce_tile_of_head(
    hidden,
    weight,
    i_tile,
    num_rows,
    partials,
    cells,
    D_MODEL: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    SINGLES: tl.constexpr,
):
    # Row tiles vary fastest: programs that run together share a tile of the weight, which is read from memory once.
    num_row_tiles = tl.cdiv(num_rows, ROWS)
    o_row = (i_tile % num_row_tiles) * ROWS
    i_column_tile = i_tile // num_row_tiles
    logits = tl.zeros((ROWS, COLUMNS), tl.float32)
    for o_inner in tl.range(0, D_MODEL, INNER):  # float32 is for tests, and is multiplied as such
        b_hidden = hidden.load([o_row, o_inner])
        b_weight = weight.load([i_column_tile * COLUMNS, o_inner])
        logits = tl.dot(b_hidden, b_weight.T, logits, input_precision="tf32x3")
    i_row = o_row + tl.arange(0, ROWS)
    o_column = i_column_tile * COLUMNS
    reduce_tile(logits, i_column_tile, o_column, i_row, num_rows, partials, cells, SINGLES)


@triton.jit(do_not_specialize=["num_rows"])
def head_kernel(
    hidden,
    weight,
    num_rows,
    num_column_tiles,
    p_score,
    p_column,
    p_total,
    p_tile_cells,
    p_cell_start,
    p_cell_slot,
    D_MODEL: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    PERSISTENT: tl.constexpr,
    SINGLES: tl.constexpr,
):
    """Tiles of logits to partial results; `hidden` and `weight` are tensor descriptors."""
    partials = (p_score, p_column, p_total)
    cells = (p_tile_cells, p_cell_start, p_cell_slot)
    i_tile = tl.program_id(0)
    if PERSISTENT:
        num_tiles = tl.cdiv(num_rows, ROWS) * num_column_tiles
        for i_next in tl.range(i_tile, num_tiles, tl.num_programs(0), flatten=True):
            _reduce_tile_of_head(
                hidden,
                weight,
                i_next,
                num_rows,
                partials,
                cells,
                D_MODEL,
                ROWS,
                COLUMNS,
                INNER,
                SINGLES,
            )
    else:
        _reduce_tile_of_head(
            hidden,
            weight,
            i_tile,
            num_rows,
            partials,
            cells,
            D_MODEL,
            ROWS,
            COLUMNS,
            INNER,
            SINGLES,
        )


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
        num_column_tiles = len(self.cells.tile_cells) - 1
        num_tiles = triton.cdiv(num_rows, config.rows) * num_column_tiles
        head_kernel[(min(num_tiles, _num_programs(hidden)) if config.persistent else num_tiles,)](
            TensorDescriptor.from_tensor(hidden.contiguous(), [config.rows, config.inner]),
            TensorDescriptor.from_tensor(self.weight, [config.columns, config.inner]),
            num_rows,
            num_column_tiles,
            partials.score,
            partials.column,
            partials.total,
            self.cells.tile_cells,
            self.cells.cell_start,
            self.cells.cell_slot,
            D_MODEL=hidden.shape[1],
            ROWS=config.rows,
            COLUMNS=config.columns,
            INNER=config.inner,
            PERSISTENT=config.persistent,
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
    if num_rows <= 64:
        return HeadConfig(rows=64, num_warps=4)
    return HeadConfig(persistent=num_rows > 512)


def _num_programs(x: Tensor) -> int:
    if not x.is_cuda:
        return 3  # under Triton's interpreter: enough for a program to take several tiles
    return torch.cuda.get_device_properties(x.device).multi_processor_count
