"""The commit: one program per canvas ranks its masked positions, applies the rule and writes the tokens."""
# ruff: noqa: N803 -- parameters in capitals are compile-time constants
# mypy: allow-untyped-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference.diffusion.kernels.naive import Commit, Rule

THRESHOLD = tl.constexpr(int(Rule.THRESHOLD))
FACTOR = tl.constexpr(int(Rule.FACTOR))
QUOTA = tl.constexpr(int(Rule.QUOTA))
FAR = tl.constexpr(2**31 - 1)
RIVALS = 32  # compared with every row at once


@triton.jit
def _load_confidence(
    p_confidence, p_position, i_row, end, o_first, o_limit, HAS_BLOCKS: tl.constexpr
):
    """Confidence of rows that may be chosen; -inf of others and for NaN. And which may be chosen."""
    may = i_row < end
    confidence = tl.load(p_confidence + i_row, mask=may, other=float("-inf")).to(tl.float32)
    if HAS_BLOCKS:
        may = may & (tl.load(p_position + i_row, mask=may, other=FAR) - o_first < o_limit)
    is_number = confidence == confidence
    return tl.where(may & is_number, confidence, float("-inf")), may


@triton.jit
def commit_kernel(
    p_tokens,
    p_token_confidence,
    p_confidence,
    p_choice,
    p_position,
    p_offsets,
    p_parameter,
    p_canvas_start,
    p_is_committed,
    p_num_masked,
    p_is_done,
    block_length,
    RULE: tl.constexpr,
    HAS_BLOCKS: tl.constexpr,
    ROWS: tl.constexpr,
    RIVALS: tl.constexpr,
):
    """See `naive.commit`. `ROWS` is at least the number of rows of any canvas."""
    i_canvas = tl.program_id(0)
    start = tl.load(p_offsets + i_canvas)
    end = tl.load(p_offsets + i_canvas + 1)
    i_row = start + tl.arange(0, ROWS)
    o_first = 0
    o_limit = 0
    if HAS_BLOCKS:
        o_first = tl.load(p_canvas_start + i_canvas).to(tl.int32)
        place = tl.load(p_position + start, mask=start < end, other=o_first).to(tl.int32) - o_first
        o_limit = (place // block_length + 1) * block_length
    confidence, may = _load_confidence(
        p_confidence, p_position, i_row, end, o_first, o_limit, HAS_BLOCKS
    )

    rank = tl.zeros((ROWS,), tl.int32)
    sum_to_here = tl.zeros((ROWS,), tl.float32)
    for o_rival in range(start, end, RIVALS):
        i_rival = o_rival + tl.arange(0, RIVALS)
        rival, _ = _load_confidence(
            p_confidence, p_position, i_rival, end, o_first, o_limit, HAS_BLOCKS
        )
        is_equal = rival[None, :] == confidence[:, None]
        is_ahead = rival[None, :] > confidence[:, None]
        is_ahead |= is_equal & (i_rival[None, :] < i_row[:, None])
        rank += tl.sum(is_ahead.to(tl.int32), 1)
        counts = is_ahead | (i_rival[None, :] == i_row[:, None])
        sum_to_here += tl.sum(tl.where(counts, rival[None, :], 0.0), 1)

    parameter = tl.load(p_parameter + i_canvas)
    num_rows = tl.sum(may.to(tl.int32), 0)
    if RULE == QUOTA:
        count = parameter.to(tl.int32)
    else:
        if RULE == THRESHOLD:
            holds = confidence >= parameter
        elif RULE == FACTOR:
            holds = confidence >= 1 - tl.div_rn(parameter, (rank + 2).to(tl.float32))
        else:
            holds = sum_to_here - rank.to(tl.float32) > parameter
        count = tl.min(tl.where(may & ~holds, rank, num_rows), 0)
    is_chosen = may & (rank < tl.maximum(count, 1))

    position = tl.load(p_position + i_row, mask=is_chosen, other=0)
    choice = tl.load(p_choice + i_row, mask=is_chosen, other=0)
    tl.store(p_tokens + position, choice, mask=is_chosen)
    tl.store(p_token_confidence + position, confidence, mask=is_chosen)
    tl.store(p_is_committed + i_row, is_chosen, mask=i_row < end)
    num_masked = end - start - tl.sum(is_chosen.to(tl.int32), 0)
    tl.store(p_num_masked + i_canvas, num_masked)
    tl.store(p_is_done + i_canvas, num_masked == 0)


def commit(
    tokens: Tensor,
    token_confidence: Tensor,
    confidence: Tensor,
    choice: Tensor,
    position: Tensor,
    offsets: Tensor,
    parameter: Tensor,
    *,
    rule: Rule,
    max_rows: int,
    block_length: int | None = None,
    canvas_start: Tensor | None = None,
) -> Commit:
    """Choose masked positions by their confidence and write their tokens, as `naive.commit` does.

    Nothing waits for the device: offsets and parameters are read there, and rows past the last offset are left alone.

    Args:
        max_rows: rows of a canvas, at most.
    """
    num_canvases = len(parameter)
    done = Commit(
        is_committed=torch.zeros(len(confidence), dtype=torch.bool, device=tokens.device),
        num_masked=torch.empty(num_canvases, dtype=torch.int32, device=tokens.device),
        is_done=torch.empty(num_canvases, dtype=torch.bool, device=tokens.device),
    )
    commit_kernel[(num_canvases,)](
        tokens,
        token_confidence,
        confidence,
        choice,
        position,
        offsets,
        parameter,
        offsets if canvas_start is None else canvas_start,
        done.is_committed,
        done.num_masked,
        done.is_done,
        block_length or 0,
        RULE=int(rule),
        HAS_BLOCKS=block_length is not None,
        ROWS=max(16, triton.next_power_of_2(max_rows)),
        RIVALS=RIVALS,
    )
    return done
