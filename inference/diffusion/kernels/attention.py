"""Attention of few open positions over a long shared prompt and a short canvas each.

The open positions of all canvases of a call make one query tile, so that the prompt's keys and values are read once
for all of them (and for all heads that share a key-value head). In small batches the prompt is also split over
programs, whose results are merged by their log-sum-exps. A prompt that sees itself is a call with an empty canvas.
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

from inference.diffusion.kernels.naive import OpenRows

LOG2_E = 1.4426950408889634
FAR = tl.constexpr(2**31 - 1)


@dataclass(frozen=True, slots=True)
class AttentionConfig:
    """Tile sizes of the attention.

    Attributes:
        queries: of a tile: open positions times heads that share a key-value head.
        keys: per step.
        num_warps: per program.
        num_stages: steps whose keys and values are in flight.
    """

    queries: int = 64
    keys: int = 64
    num_warps: int = 4
    num_stages: int = 3


@triton.jit
def _attend(
    state,
    inputs,
    o_key,
    seen_end,
    MASKED: tl.constexpr,
    KEYS: tl.constexpr,
):
    """One step of online softmax over the keys from `o_key`; if `MASKED`, each query sees those up to its end."""
    out, highest, total = state
    q, keys, values, o_head, scale = inputs
    k = keys.load([o_key, o_head])
    v = values.load([o_key, o_head])
    score = tl.dot(q, k.T) * scale
    if MASKED:
        i_key = (o_key + tl.arange(0, KEYS))[None, :]
        seen = i_key < seen_end[:, None]
        score = tl.where(seen, score, float("-inf"))
        # What no query sees may hold another call's NaN, or nothing yet, and zero times NaN is NaN.
        v = tl.where((tl.max(seen.to(tl.int32), 0) > 0)[:, None], v, tl.zeros_like(v))
    higher = tl.maximum(highest, tl.max(score, 1))
    base = tl.where(higher == float("-inf"), 0.0, higher) if MASKED else higher
    weight = tl.exp2(score - base[:, None])
    shrink = tl.exp2(highest - base)
    total = total * shrink + tl.sum(weight, 1)
    out = tl.dot(weight.to(v.dtype), v, out * shrink[:, None])
    return out, higher, total


@triton.jit
def _query_tile(p_call_offsets, num_tiles, QUERIES: tl.constexpr, GROUP: tl.constexpr):
    """The call of this program, and for its queries: row, place in the group of heads, whether it exists."""
    i_call = tl.program_id(0) // num_tiles
    i_query = tl.arange(0, QUERIES)
    first = tl.load(p_call_offsets + i_call) + tl.program_id(0) % num_tiles * (QUERIES // GROUP)
    i_row = first + i_query // GROUP
    return i_call, i_row, i_query % GROUP, i_row < tl.load(p_call_offsets + i_call + 1)


@triton.jit(do_not_specialize=["num_rows", "num_tiles"])
def attention_kernel(
    p_q,
    keys,
    values,
    p_out,
    p_split_lse,
    p_call_offsets,
    p_prompt_start,
    p_prompt_end,
    p_row_canvas,
    p_canvas_start,
    p_canvas_end,
    num_rows,
    num_tiles,
    scale,
    N_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    SPLIT_KEYS: tl.constexpr,
):
    """See `naive.ragged_attention`: one program per query tile of a call, key-value head and split of the prompt.

    `keys` and `values` are tensor descriptors. With `SPLIT_KEYS`, `p_out` and `p_split_lse` are float32, the splits in
    front; the canvas goes with the first split.
    """
    i_head, i_split = tl.program_id(1), tl.program_id(2)
    i_call, i_row, i_member, m_row = _query_tile(p_call_offsets, num_tiles, QUERIES, GROUP)
    start = tl.load(p_prompt_start + i_call)
    end = tl.load(p_prompt_end + i_call)
    if SPLIT_KEYS:
        start += i_split * SPLIT_KEYS
        end = tl.minimum(end, start + SPLIT_KEYS)
    if (tl.max(m_row.to(tl.int32), 0) == 0) | ((i_split > 0) & (start >= end)):
        return

    o_head = i_row.to(tl.int64) * N_HEADS + i_head * GROUP + i_member
    o_q = o_head[:, None] * HEAD_DIM + tl.arange(0, HEAD_DIM)[None, :]
    q = tl.load(p_q + o_q, mask=m_row[:, None], other=0.0)
    state = (
        tl.zeros((QUERIES, HEAD_DIM), tl.float32),
        tl.full((QUERIES,), float("-inf"), tl.float32),
        tl.zeros((QUERIES,), tl.float32),
    )
    inputs = (q, keys, values, i_head * HEAD_DIM, scale)
    zero = tl.zeros((QUERIES,), tl.int32)
    whole = start + (tl.maximum(end - start, 0) // KEYS) * KEYS
    for o_key in range(start, whole, KEYS):
        state = _attend(state, inputs, o_key, zero, False, KEYS)
    if whole < end:
        state = _attend(state, inputs, whole, zero + end, True, KEYS)
    if i_split == 0:
        row_canvas = tl.load(p_row_canvas + i_row, mask=m_row, other=-1)
        first = tl.min(tl.where(m_row, row_canvas, FAR), 0)
        for i_canvas in range(first, tl.max(row_canvas, 0) + 1):
            own_end = tl.load(p_canvas_end + i_canvas)
            seen_end = tl.where(row_canvas == i_canvas, own_end, 0)
            for o_key in range(tl.load(p_canvas_start + i_canvas), own_end, KEYS):
                state = _attend(state, inputs, o_key, seen_end, True, KEYS)
    out, highest, total = state
    out = out / total[:, None]
    if SPLIT_KEYS:
        o_split = i_split.to(tl.int64) * num_rows * N_HEADS
        tl.store(p_split_lse + o_split + o_head, highest + tl.log2(total), mask=m_row)
        o_q += o_split * HEAD_DIM
    tl.store(p_out + o_q, out, mask=m_row[:, None])


@triton.jit(do_not_specialize=["num_rows", "num_tiles"])
def merge_splits_kernel(
    p_split_out,
    p_split_lse,
    p_out,
    p_call_offsets,
    p_prompt_start,
    p_prompt_end,
    num_rows,
    num_tiles,
    N_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    QUERIES: tl.constexpr,
    SPLIT_KEYS: tl.constexpr,
):
    """Splits of the prompt to one result, by the tiles of `attention_kernel` (with tiles of `QUERIES`)."""
    i_call, i_row, i_member, m_row = _query_tile(p_call_offsets, num_tiles, QUERIES, GROUP)
    length = tl.load(p_prompt_end + i_call) - tl.load(p_prompt_start + i_call)
    if tl.max(m_row.to(tl.int32), 0) == 0:
        return
    o_head = i_row.to(tl.int64) * N_HEADS + tl.program_id(1) * GROUP + i_member
    o_out = o_head[:, None] * HEAD_DIM + tl.arange(0, HEAD_DIM)[None, :]
    o_final = o_out
    out = tl.zeros((QUERIES, HEAD_DIM), tl.float32)
    highest = tl.full((QUERIES,), float("-inf"), tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    for _ in range(tl.maximum(tl.cdiv(length, SPLIT_KEYS), 1)):
        lse = tl.load(p_split_lse + o_head, mask=m_row, other=0.0)
        part = tl.load(p_split_out + o_out, mask=m_row[:, None], other=0.0)
        o_head += num_rows * N_HEADS
        o_out += num_rows * N_HEADS * HEAD_DIM
        higher = tl.maximum(highest, lse)
        shrink, grow = tl.exp2(highest - higher), tl.exp2(lse - higher)
        out = out * shrink[:, None] + part * grow[:, None]
        total = total * shrink + grow
        highest = higher
    tl.store(p_out + o_final, out / total[:, None], mask=m_row[:, None])


def ragged_attention(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    rows: OpenRows,
    *,
    max_rows_per_call: int,
    max_prompt: int,
    split_keys: int | None = None,
    config: AttentionConfig | None = None,
) -> Tensor:
    """Attention of open positions over the prompt of their call and their own canvas, as `naive.ragged_attention`.

    Nothing waits for the device: all ranges are read there. Rows that belong to no call are not written.

    Args:
        max_rows_per_call: bound on the open positions of a call.
        max_prompt: bound on the length of a prompt.
        split_keys: prompt keys per program; all of them if not given. It decides the order of summation, so a result is
            the same in every batch only under the same value.
        config: tile sizes.
    """
    config = config or AttentionConfig()
    num_rows, n_heads, head_dim = q.shape
    n_kv_heads = keys.shape[1]
    group = n_heads // n_kv_heads
    assert config.queries % group == 0, "a tile holds whole groups of heads"
    assert q.is_contiguous()
    assert keys.is_contiguous()
    assert values.is_contiguous()
    num_tiles = triton.cdiv(max_rows_per_call * group, config.queries)
    num_splits = max(1, triton.cdiv(max_prompt, split_keys)) if split_keys else 1
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    split_lse = split_out = out
    if num_splits > 1:
        split_out = torch.empty(num_splits, *q.shape, dtype=torch.float32, device=q.device)
        split_lse = torch.empty(num_splits, num_rows, n_heads, dtype=torch.float32, device=q.device)
    num_calls = len(rows.prompt_start)
    attention_kernel[num_calls * num_tiles, n_kv_heads, num_splits](
        q,
        TensorDescriptor.from_tensor(keys.view(len(keys), -1), [config.keys, head_dim]),
        TensorDescriptor.from_tensor(values.view(len(values), -1), [config.keys, head_dim]),
        split_out,
        split_lse,
        rows.call_offsets,
        rows.prompt_start,
        rows.prompt_end,
        rows.row_canvas,
        rows.canvas_start,
        rows.canvas_end,
        num_rows,
        num_tiles,
        head_dim**-0.5 * LOG2_E,
        N_HEADS=n_heads,
        GROUP=group,
        HEAD_DIM=head_dim,
        QUERIES=config.queries,
        KEYS=config.keys,
        SPLIT_KEYS=split_keys if num_splits > 1 else 0,
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )
    if num_splits > 1:
        merge_queries = max(16, group)
        merge_tiles = triton.cdiv(max_rows_per_call * group, merge_queries)
        merge_splits_kernel[num_calls * merge_tiles, n_kv_heads](
            split_out,
            split_lse,
            out,
            rows.call_offsets,
            rows.prompt_start,
            rows.prompt_end,
            num_rows,
            merge_tiles,
            N_HEADS=n_heads,
            GROUP=group,
            HEAD_DIM=head_dim,
            QUERIES=merge_queries,
            SPLIT_KEYS=split_keys,
        )
    return out
