"""A projection whose rows do not depend on each other: the same bits for a row in every batch.

Libraries choose another kernel, and so another order of summation, for another number of rows. Here every tile sums its
products in the same order, whatever the number of rows.
"""
# ruff: noqa: N803 -- parameters in capitals are compile-time constants
# mypy: allow-untyped-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

ROWS, COLUMNS, INNER = 128, 128, 64
GROUP = 8  # row tiles that run beside each other, so that they share tiles of the weight in the L2 cache


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
    """See `naive.linear`: one program per tile; `x` and `weight` are tensor descriptors."""
    num_row_tiles = tl.cdiv(num_rows, ROWS)
    num_column_tiles: tl.constexpr = (NUM_COLUMNS + COLUMNS - 1) // COLUMNS
    i_group = tl.program_id(0) // (GROUP * num_column_tiles)
    group_rows = tl.minimum(num_row_tiles - i_group * GROUP, GROUP)
    i_tile = tl.program_id(0) % (GROUP * num_column_tiles)
    o_row = (i_group * GROUP + i_tile % group_rows) * ROWS
    o_column = (i_tile // group_rows) * COLUMNS
    out = tl.zeros((ROWS, COLUMNS), tl.float32)
    for o_inner in tl.range(0, NUM_INNER, INNER):  # float32 is for tests, and is multiplied as such
        b_x = x.load([o_row, o_inner])
        b_weight = weight.load([o_column, o_inner])
        out = tl.dot(b_x, b_weight.T, out, input_precision="tf32x3")
    i_row = o_row + tl.arange(0, ROWS)
    i_column = o_column + tl.arange(0, COLUMNS)
    o_out = i_row[:, None].to(tl.int64) * NUM_COLUMNS + i_column[None, :]
    m_out = (i_row < num_rows)[:, None] & (i_column < NUM_COLUMNS)[None, :]
    if HAS_BIAS:
        out += tl.load(p_bias_rows + o_out, mask=m_out, other=0.0).to(tl.float32)
    tl.store(p_out + o_out, out, mask=m_out)


def linear(x: Tensor, weight: Tensor, bias_rows: Tensor | None = None) -> Tensor:
    """`x @ weight.T`, plus `bias_rows` if given, as `naive.linear` does. Rows are multiples of 16 bytes."""
    num_rows, num_columns = len(x), len(weight)
    assert x.is_contiguous()
    assert weight.is_contiguous()
    out = torch.empty(num_rows, num_columns, dtype=x.dtype, device=x.device)
    grid = (triton.cdiv(num_rows, ROWS) * triton.cdiv(num_columns, COLUMNS),)
    linear_kernel[grid](
        TensorDescriptor.from_tensor(x, [ROWS, INNER]),
        TensorDescriptor.from_tensor(weight, [COLUMNS, INNER]),
        out if bias_rows is None else bias_rows,
        out,
        num_rows,
        NUM_COLUMNS=num_columns,
        NUM_INNER=x.shape[1],
        HAS_BIAS=bias_rows is not None,
        ROWS=ROWS,
        COLUMNS=COLUMNS,
        INNER=INNER,
        GROUP=GROUP,
        num_warps=4,
        num_stages=4 if x.element_size() == 2 else 2,  # what fits the shared memory
    )
    return out
