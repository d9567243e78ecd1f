"""Root-mean-square normalisation of few rows: a library's kernel takes twice as long for the rows of one call."""
# ruff: noqa: N803 -- parameters in capitals are compile-time constants
# mypy: allow-untyped-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def rms_norm_kernel(p_x, p_weight, p_out, eps, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """See `naive.rms_norm`: one program per row, which holds it whole."""
    i_row = tl.program_id(0).to(tl.int64)
    i_column = tl.arange(0, BLOCK)
    m_column = i_column < WIDTH
    x = tl.load(p_x + i_row * WIDTH + i_column, mask=m_column, other=0.0).to(tl.float32)
    weight = tl.load(p_weight + i_column, mask=m_column, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(x * x, 0) / WIDTH + eps)
    tl.store(p_out + i_row * WIDTH + i_column, x * scale * weight, mask=m_column)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`x [num_rows, width]` divided by the root of each row's mean square, times `weight`, as `naive.rms_norm` does."""
    num_rows, width = x.shape
    assert x.is_contiguous()
    out = torch.empty_like(x)
    block = triton.next_power_of_2(width)
    rms_norm_kernel[num_rows,](
        x, weight, out, eps, WIDTH=width, BLOCK=block, num_warps=min(max(block // 512, 1), 16)
    )
    return out
