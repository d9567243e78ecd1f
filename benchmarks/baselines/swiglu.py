"""The gate of a feed-forward layer in one pass over its inputs; plain operations read and write them twice."""
# ruff: noqa: N803 -- parameters in capitals are compile-time constants
# mypy: allow-untyped-defs

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 2048


@triton.jit
def _swiglu_kernel(p_gate_up, p_out, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    i_row = tl.program_id(0).to(tl.int64)
    i_column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = i_column < WIDTH
    p_gate = p_gate_up + i_row * 2 * WIDTH + i_column
    gate = tl.load(p_gate, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(p_gate + WIDTH, mask=mask, other=0.0).to(tl.float32)
    tl.store(p_out + i_row * WIDTH + i_column, gate * tl.sigmoid(gate) * up, mask=mask)


def swiglu(gate_up: Tensor) -> Tensor:
    """silu of the first half times the second half: `[num_rows, 2 * width]` to `[num_rows, width]`."""
    if gate_up.device.type == "cpu":
        return naive_swiglu(gate_up)
    return fused_swiglu(gate_up)


def naive_swiglu(gate_up: Tensor) -> Tensor:
    """The same in plain operations."""
    gate, up = gate_up.chunk(2, dim=1)
    return F.silu(gate) * up


def fused_swiglu(gate_up: Tensor) -> Tensor:
    """The same in one kernel."""
    num_rows, width = len(gate_up), gate_up.shape[1] // 2
    assert gate_up.is_contiguous()
    out = torch.empty(num_rows, width, dtype=gate_up.dtype, device=gate_up.device)
    grid = (num_rows, triton.cdiv(width, BLOCK))
    _swiglu_kernel[grid](gate_up, out, WIDTH=width, BLOCK=BLOCK, num_warps=8)
    return out
