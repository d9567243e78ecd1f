"""Projections whose rows do not depend on each other: the same bits for a row in every batch.

Libraries choose another kernel, and so another order of summation, for another number of rows. Here every tile sums its
products in the same order, whatever its size and the number of rows.
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

from inference.diffusion.kernels.launch import num_programs

GROUP = 16  # row tiles that run beside each other, so that they share tiles of the weight in the L2 cache


@dataclass(frozen=True, slots=True)
class Tile:
    """Of the output of a projection.

    Attributes:
        rows: of the tile.
        columns: likewise; of each half of a gated projection.
        inner: features of the input per step.
        num_warps: per program.
        num_stages: of loads in flight.
        cost: time that a multiprocessor takes for it, relative to the others of a list.
    """

    rows: int
    columns: int
    inner: int
    num_warps: int
    num_stages: int
    cost: float


# Measured on an H200 with LLaDA-8B's projections of 64 to 8,192 rows.
TILES = (
    Tile(128, 256, inner=64, num_warps=8, num_stages=4, cost=2.0),
    Tile(128, 128, inner=64, num_warps=8, num_stages=4, cost=1.08),
    Tile(64, 128, inner=128, num_warps=4, num_stages=4, cost=0.59),
    Tile(64, 64, inner=128, num_warps=4, num_stages=5, cost=0.55),
)
GATED_TILES = (
    Tile(128, 128, inner=64, num_warps=8, num_stages=4, cost=2.0),
    Tile(64, 128, inner=64, num_warps=8, num_stages=4, cost=1.04),
    Tile(64, 64, inner=128, num_warps=4, num_stages=4, cost=0.68),
)
# For float32, in tests: what fits the shared memory.
WIDE = Tile(64, 64, inner=64, num_warps=4, num_stages=2, cost=1.0)


@triton.jit
def _place_of(i_tile, num_row_tiles, NUM_COLUMN_TILES: tl.constexpr, GROUP: tl.constexpr):
    """Row tile and column tile: column by column within a group of row tiles."""
    i_group = i_tile // (GROUP * NUM_COLUMN_TILES)
    group_rows = tl.minimum(num_row_tiles - i_group * GROUP, GROUP)
    i_in_group = i_tile % (GROUP * NUM_COLUMN_TILES)
    return i_group * GROUP + i_in_group % group_rows, i_in_group // group_rows


@triton.jit(do_not_specialize=["num_rows"])
def linear_kernel(
    x,
    weight,
    p_bias_rows,
    p_out,
    num_rows,
    NUM_COLUMNS: tl.constexpr,
    NUM_INNER: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    GROUP: tl.constexpr,
):
    """See `naive.linear`; `x` and `weight` are tensor descriptors. A program takes tile after tile."""
    num_row_tiles = tl.cdiv(num_rows, ROWS)
    num_column_tiles: tl.constexpr = (NUM_COLUMNS + COLUMNS - 1) // COLUMNS
    num_tiles = num_row_tiles * num_column_tiles
    for i_tile in tl.range(tl.program_id(0), num_tiles, tl.num_programs(0), flatten=True):
        i_row_tile, i_column_tile = _place_of(i_tile, num_row_tiles, num_column_tiles, GROUP)
        o_row, o_column = i_row_tile * ROWS, i_column_tile * COLUMNS
        out = tl.zeros((ROWS, COLUMNS), tl.float32)
        for o_inner in tl.range(0, NUM_INNER, INNER):
            b_x = x.load([o_row, o_inner])
            b_weight = weight.load([o_column, o_inner])
            # float32 is for tests, and is multiplied as such
            out = tl.dot(b_x, b_weight.T, out, input_precision="tf32x3")
        i_row = o_row + tl.arange(0, ROWS)
        i_column = o_column + tl.arange(0, COLUMNS)
        o_out = i_row[:, None].to(tl.int64) * NUM_COLUMNS + i_column[None, :]
        m_out = (i_row < num_rows)[:, None] & (i_column < NUM_COLUMNS)[None, :]
        if HAS_BIAS:
            out += tl.load(p_bias_rows + o_out, mask=m_out, other=0.0).to(tl.float32)
        tl.store(p_out + o_out, out, mask=m_out)


@triton.jit(do_not_specialize=["num_rows"])
def gated_linear_kernel(
    x,
    weight,
    p_out,
    num_rows,
    WIDTH: tl.constexpr,
    NUM_INNER: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    GROUP: tl.constexpr,
):
    """See `naive.gated_linear`; `x` and `weight`, seen as `[2, WIDTH, NUM_INNER]`, are tensor descriptors.

    A tile of the weight holds the same columns of both halves, so that they are one product and meet in registers.
    """
    num_row_tiles = tl.cdiv(num_rows, ROWS)
    num_column_tiles: tl.constexpr = (WIDTH + COLUMNS - 1) // COLUMNS
    num_tiles = num_row_tiles * num_column_tiles
    for i_tile in tl.range(tl.program_id(0), num_tiles, tl.num_programs(0), flatten=True):
        i_row_tile, i_column_tile = _place_of(i_tile, num_row_tiles, num_column_tiles, GROUP)
        o_row, o_column = i_row_tile * ROWS, i_column_tile * COLUMNS
        both = tl.zeros((ROWS, 2 * COLUMNS), tl.float32)
        for o_inner in tl.range(0, NUM_INNER, INNER):
            b_x = x.load([o_row, o_inner])
            b_weight = tl.reshape(weight.load([0, o_column, o_inner]), (2 * COLUMNS, INNER))
            both = tl.dot(b_x, b_weight.T, both, input_precision="tf32x3")
        gate, up = tl.split(tl.permute(tl.reshape(both, (ROWS, 2, COLUMNS)), (0, 2, 1)))
        i_row = o_row + tl.arange(0, ROWS)
        i_column = o_column + tl.arange(0, COLUMNS)
        o_out = i_row[:, None].to(tl.int64) * WIDTH + i_column[None, :]
        m_out = (i_row < num_rows)[:, None] & (i_column < WIDTH)[None, :]
        tl.store(p_out + o_out, gate * tl.sigmoid(gate) * up, mask=m_out)


def linear(x: Tensor, weight: Tensor, bias_rows: Tensor | None = None) -> Tensor:
    """`x @ weight.T`, plus `bias_rows` if given, as `naive.linear` does. Rows are multiples of 16 bytes."""
    num_rows, num_columns = len(x), len(weight)
    assert x.is_contiguous()
    assert weight.is_contiguous()
    out = torch.empty(num_rows, num_columns, dtype=x.dtype, device=x.device)
    tile, grid = _choose(TILES, x, num_columns)
    linear_kernel[grid](
        TensorDescriptor.from_tensor(x, [tile.rows, tile.inner]),
        TensorDescriptor.from_tensor(weight, [tile.columns, tile.inner]),
        out if bias_rows is None else bias_rows,
        out,
        num_rows,
        NUM_COLUMNS=num_columns,
        NUM_INNER=x.shape[1],
        HAS_BIAS=bias_rows is not None,
        ROWS=tile.rows,
        COLUMNS=tile.columns,
        INNER=tile.inner,
        GROUP=GROUP,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )
    return out


def gated_linear(x: Tensor, weight: Tensor) -> Tensor:
    """SiLU of `x @ first.T` times `x @ second.T`, the halves of `weight`, as `naive.gated_linear` does."""
    num_rows, width = len(x), len(weight) // 2
    assert x.is_contiguous()
    assert weight.is_contiguous()
    out = torch.empty(num_rows, width, dtype=x.dtype, device=x.device)
    tile, grid = _choose(GATED_TILES, x, width)
    gated_linear_kernel[grid](
        TensorDescriptor.from_tensor(x, [tile.rows, tile.inner]),
        TensorDescriptor.from_tensor(weight.view(2, width, -1), [2, tile.columns, tile.inner]),
        out,
        num_rows,
        WIDTH=width,
        NUM_INNER=x.shape[1],
        ROWS=tile.rows,
        COLUMNS=tile.columns,
        INNER=tile.inner,
        GROUP=GROUP,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )
    return out


def _choose(tiles: tuple[Tile, ...], x: Tensor, num_columns: int) -> tuple[Tile, tuple[int]]:
    """The tile with which the busiest program is done first, and the grid for it."""
    tiles = tiles if x.element_size() == 2 else (WIDE,)

    def num_tiles(tile: Tile) -> int:
        return triton.cdiv(len(x), tile.rows) * triton.cdiv(num_columns, tile.columns)

    at_a_time = num_programs(x.device)
    best = min(tiles, key=lambda tile: triton.cdiv(num_tiles(tile), at_a_time) * tile.cost)
    return best, (min(num_tiles(best), at_a_time),)
