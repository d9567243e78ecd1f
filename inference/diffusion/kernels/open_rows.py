"""Which positions a step computes: counted per canvas, then listed canvas after canvas, all on the device."""
# ruff: noqa: N803 -- parameters in capitals are compile-time constants
# mypy: allow-untyped-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference.diffusion.kernels.naive import Canvases, StepRows

BLOCK = 128  # tokens of a canvas at once; most canvases are one block


@triton.jit
def _flags(p_tokens, p_is_open, place, m_place, mask_token_id):
    """Which of these places are masked, and which are open."""
    token = tl.load(p_tokens + place, mask=m_place, other=-1)
    is_open = tl.load(p_is_open + place, mask=m_place, other=0) != 0
    return token, m_place & (token == mask_token_id), is_open


@triton.jit
def count_open_kernel(
    p_tokens, p_is_open, p_start, p_end, p_count, mask_token_id, num_canvases, BLOCK: tl.constexpr
):
    """See `naive.count_open`: one program per canvas."""
    i_canvas = tl.program_id(0)
    end = tl.load(p_end + i_canvas)
    num_open = tl.zeros((BLOCK,), tl.int32)
    num_masked = tl.zeros((BLOCK,), tl.int32)
    for o_place in range(tl.load(p_start + i_canvas), end, BLOCK):
        place = o_place + tl.arange(0, BLOCK)
        _, is_masked, is_open = _flags(p_tokens, p_is_open, place, place < end, mask_token_id)
        num_open += is_open.to(tl.int32)
        num_masked += is_masked.to(tl.int32)
    masked = tl.sum(num_masked, 0)
    tl.store(p_count + i_canvas, tl.where(masked > 0, tl.sum(num_open, 0), 0))
    tl.store(p_count + num_canvases + i_canvas, masked)


@triton.jit
def _fill_up(p_to, value, first, end, BLOCK: tl.constexpr):
    for o_row in range(first, end, BLOCK):
        i_row = o_row + tl.arange(0, BLOCK)
        tl.store(p_to + i_row, tl.zeros((BLOCK,), tl.int32) + value, mask=i_row < end)


@triton.jit(do_not_specialize=["num_rows", "num_heads"])
def list_open_kernel(
    p_tokens,
    p_positions,
    p_is_open,
    p_commit_step,
    p_row_of_place,
    p_start,
    p_end,
    p_last,
    p_place,
    p_token,
    p_position,
    p_canvas,
    p_head_row,
    p_head_place,
    mask_token_id,
    num_canvases,
    num_rows,
    num_heads,
    BLOCK: tl.constexpr,
):
    """See `naive.list_open`: one program per canvas, and one that fills up the lists."""
    i_canvas = tl.program_id(0)
    i_row = tl.load(p_last + i_canvas - 1, mask=i_canvas > 0, other=0)
    i_head = tl.load(p_last + num_canvases + i_canvas - 1, mask=i_canvas > 0, other=0)
    if i_canvas == num_canvases:
        _fill_up(p_place, -1, i_row, num_rows, BLOCK)
        _fill_up(p_token, 0, i_row, num_rows, BLOCK)
        _fill_up(p_position, 0, i_row, num_rows, BLOCK)
        _fill_up(p_canvas, 0, i_row, num_rows, BLOCK)
        _fill_up(p_head_row, 0, i_head, num_heads, BLOCK)
        _fill_up(p_head_place, 0, i_head, num_heads, BLOCK)
        return
    end = tl.load(p_end + i_canvas)
    if tl.load(p_last + i_canvas) == i_row:  # nothing is masked any more
        end = 0
    for o_place in range(tl.load(p_start + i_canvas), end, BLOCK):
        place = o_place + tl.arange(0, BLOCK)
        token, is_masked, is_open = _flags(p_tokens, p_is_open, place, place < end, mask_token_id)
        row = i_row + tl.cumsum(is_open.to(tl.int32), 0) - 1
        tl.store(p_place + row, place, mask=is_open)
        tl.store(p_token + row, token, mask=is_open)
        position = tl.load(p_positions + place, mask=is_open, other=0)
        tl.store(p_position + row, position, mask=is_open)
        tl.store(p_canvas + row, tl.zeros_like(row) + i_canvas, mask=is_open)
        head = i_head + tl.cumsum(is_masked.to(tl.int32), 0) - 1
        tl.store(p_head_row + head, row, mask=is_masked)
        tl.store(p_head_place + head, place, mask=is_masked)
        tl.store(p_row_of_place + place, head, mask=is_masked)
        tl.store(p_is_open + place, is_masked.to(tl.int32), mask=is_open)
        step = tl.load(p_commit_step + place, mask=is_masked, other=0)
        tl.store(p_commit_step + place, step + 1, mask=is_masked)
        i_row += tl.sum(is_open.to(tl.int32), 0)
        i_head += tl.sum(is_masked.to(tl.int32), 0)


def count_open(canvases: Canvases, start: Tensor, end: Tensor) -> Tensor:
    """Open and masked positions of every canvas, as `naive.count_open`; nothing waits for the device."""
    count = torch.empty(2, len(start), dtype=torch.int32, device=start.device)
    count_open_kernel[len(start),](
        canvases.tokens,
        canvases.is_open,
        start,
        end,
        count,
        canvases.mask_token_id,
        len(start),
        BLOCK=BLOCK,
    )
    return count


def list_open(
    canvases: Canvases,
    start: Tensor,
    end: Tensor,
    count: Tensor,
    *,
    num_rows: int,
    num_heads: int,
) -> StepRows:
    """The rows of a step, as `naive.list_open`; nothing waits for the device."""
    last = count.cumsum(1, dtype=torch.int32)
    place, token, position, canvas = (
        torch.empty(num_rows, dtype=torch.int32, device=start.device) for _ in range(4)
    )
    head_row, head_place = (
        torch.empty(num_heads, dtype=torch.int32, device=start.device) for _ in range(2)
    )
    list_open_kernel[len(start) + 1,](
        canvases.tokens,
        canvases.positions,
        canvases.is_open,
        canvases.commit_step,
        canvases.row_of_place,
        start,
        end,
        last,
        place,
        token,
        position,
        canvas,
        head_row,
        head_place,
        canvases.mask_token_id,
        len(start),
        num_rows,
        num_heads,
        BLOCK=BLOCK,
    )
    return StepRows(place, token, position, canvas, head_row, head_place, last[0])
