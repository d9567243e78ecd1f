"""Attention of few open positions over a long shared prompt and a short canvas each.

The open positions of all canvases of a call make one query tile, so that the prompt's keys and values are read once
for all of them (and for all heads that share a key-value head). In small batches the prompt is also split over
programs, with one more for the canvases, and their results are merged by their log-sum-exps. A prompt that sees itself
is a call without canvases.
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

MERGE_QUERIES = 4  # of 128 dimensions: 16 bytes for each of 128 threads
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
        max_registers: of a thread; 128 let two programs of eight warps share a multiprocessor, so that one multiplies
            while the other one takes exponentials.
    """

    queries: int = 64
    keys: int = 64
    num_warps: int = 4
    num_stages: int = 3
    max_registers: int | None = None


@triton.jit
def _attend(
    state,
    inputs,
    o_key,
    end,
    m_query,
    MASKED: tl.constexpr,
    KEYS: tl.constexpr,
):
    """One step of online softmax over the keys from `o_key`.

    If `MASKED`, the queries `m_query` see those before `end`, the others none. Else all see all.
    """
    out, highest, total = state
    q, keys, values, o_head, scale = inputs
    # float32, which only tests ask for, is multiplied as such: by default Triton would drop all but ten of its bits.
    k = keys.load([o_key, o_head])
    v = values.load([o_key, o_head])
    score = tl.dot(q, k.T, input_precision="tf32x3")
    if MASKED:
        i_key = o_key + tl.arange(0, KEYS)
        score = tl.where(m_query[:, None] & (i_key < end)[None, :], score, float("-inf"))
        # What lies beyond may hold another call's NaN, or nothing yet, and zero times NaN is NaN.
        v = tl.where((i_key < end)[:, None], v, tl.zeros_like(v))
    higher = tl.maximum(highest, tl.max(score, 1) * scale)
    base = tl.where(higher == float("-inf"), 0.0, higher) if MASKED else higher
    weight = tl.exp2(score * scale - base[:, None])  # scaled here: one instruction for both
    shrink = tl.exp2(highest - base)
    total = total * shrink + tl.sum(weight, 1)
    out = tl.dot(weight.to(v.dtype), v, out * shrink[:, None], input_precision="tf32x3")
    return out, higher, total


@triton.jit
def _query_tile(p_call_offsets, num_tiles, QUERIES: tl.constexpr, GROUP: tl.constexpr):
    """The call of this program, its first row, and of its queries the row, place in the group, whether it exists."""
    i_call = tl.program_id(0) // num_tiles
    i_query = tl.arange(0, QUERIES)
    first = tl.load(p_call_offsets + i_call) + tl.program_id(0) % num_tiles * (QUERIES // GROUP)
    i_row = first + i_query // GROUP
    return i_call, first, i_row, i_query % GROUP, i_row < tl.load(p_call_offsets + i_call + 1)


@triton.jit(do_not_specialize=["num_rows", "num_tiles"])
def attention_kernel(
    queries,
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
    CANVASES: tl.constexpr,
):
    """See `naive.ragged_attention`: one program per query tile of a call, key-value head and split of the prompt.

    `queries`, `keys` and `values` are tensor descriptors. With `SPLIT_KEYS`, `p_out` and `p_split_lse` are float32, the
    splits in front: the canvases if there are any, which take longest, then the prompt piece by piece.
    """
    i_head, i_split = tl.program_id(1), tl.program_id(2)
    i_call, o_row, i_row, i_member, m_row = _query_tile(p_call_offsets, num_tiles, QUERIES, GROUP)
    start = tl.load(p_prompt_start + i_call)
    end = tl.load(p_prompt_end + i_call)
    if SPLIT_KEYS:
        start += (i_split - CANVASES) * SPLIT_KEYS
        end = tl.minimum(end, start + SPLIT_KEYS)
        if CANVASES:
            end = tl.where(i_split == 0, start, end)
    if (tl.max(m_row.to(tl.int32), 0) == 0) | ((i_split > 0) & (start >= end)):
        return

    # Rows beyond the call's come along, and are not stored.
    b_q = queries.load([o_row, i_head * (GROUP * HEAD_DIM)])
    q = tl.reshape(b_q, (QUERIES, HEAD_DIM))
    state = (
        tl.zeros((QUERIES, HEAD_DIM), tl.float32),
        tl.full((QUERIES,), float("-inf"), tl.float32),
        tl.zeros((QUERIES,), tl.float32),
    )
    inputs = (q, keys, values, i_head * HEAD_DIM, scale)
    whole = start + (tl.maximum(end - start, 0) // KEYS) * KEYS
    for o_key in range(start, whole, KEYS):
        state = _attend(state, inputs, o_key, end, m_row, False, KEYS)
    if whole < end:
        state = _attend(state, inputs, whole, end, m_row, True, KEYS)
    if CANVASES and i_split == 0:
        row_canvas = tl.load(p_row_canvas + i_row, mask=m_row, other=-1)
        first = tl.min(tl.where(m_row, row_canvas, FAR), 0)
        for i_canvas in range(first, tl.max(row_canvas, 0) + 1):
            own_end = tl.load(p_canvas_end + i_canvas)
            for o_key in range(tl.load(p_canvas_start + i_canvas), own_end, KEYS):
                state = _attend(state, inputs, o_key, own_end, row_canvas == i_canvas, True, KEYS)
    out, highest, total = state
    total = tl.where(total > 0, total, 1.0)  # in an empty canvas nothing is seen
    o_head = i_row * N_HEADS + i_head * GROUP + i_member
    o_out = o_head[:, None] * HEAD_DIM + tl.arange(0, HEAD_DIM)[None, :]
    if SPLIT_KEYS:
        o_split = i_split.to(tl.int64) * num_rows * N_HEADS
        tl.store(p_split_lse + o_split + o_head, highest + tl.log2(total), mask=m_row)
        p_out += o_split * HEAD_DIM
    tl.store(p_out + o_out, out / total[:, None], mask=m_row[:, None])


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
    SPLITS: tl.constexpr,
    CANVASES: tl.constexpr,
):
    """The splits to one result, by the tiles of `attention_kernel` (with tiles of `QUERIES`)."""
    i_call, _, i_row, i_member, m_row = _query_tile(p_call_offsets, num_tiles, QUERIES, GROUP)
    length = tl.load(p_prompt_end + i_call) - tl.load(p_prompt_start + i_call)
    if tl.max(m_row.to(tl.int32), 0) == 0:
        return
    num_written = CANVASES + tl.cdiv(length, SPLIT_KEYS)
    o_head = i_row.to(tl.int64) * N_HEADS + tl.program_id(1) * GROUP + i_member
    o_out = o_head[:, None] * HEAD_DIM + tl.arange(0, HEAD_DIM)[None, :]
    highest = tl.full((QUERIES,), float("-inf"), tl.float32)
    for i_split in tl.static_range(SPLITS):
        p_lse = p_split_lse + o_head + i_split * num_rows * N_HEADS
        lse = tl.load(p_lse, mask=m_row & (i_split < num_written), other=float("-inf"))
        highest = tl.maximum(highest, lse)
    out = tl.zeros((QUERIES, HEAD_DIM), tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    for i_split in tl.static_range(SPLITS):  # unrolled, so that all loads are in flight together
        o_split = i_split * num_rows * N_HEADS
        m_split = m_row & (i_split < num_written)
        lse = tl.load(p_split_lse + o_split + o_head, mask=m_split, other=float("-inf"))
        part = tl.load(p_split_out + o_split * HEAD_DIM + o_out, mask=m_split[:, None], other=0.0)
        weight = tl.where(m_split, tl.exp2(lse - highest), 0.0)
        out += part * weight[:, None]
        total += weight
    tl.store(p_out + o_out, out / total[:, None], mask=m_row[:, None])


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
    out: Tensor | None = None,
) -> Tensor:
    """Attention of open positions over the prompt of their call and their own canvas, as `naive.ragged_attention`.

    Nothing waits for the device: all ranges are read there. Rows that belong to no call are not written.

    Args:
        max_rows_per_call: bound on the open positions of a call.
        max_prompt: bound on the length of a prompt.
        split_keys: prompt keys per program; all of them if not given. It decides the order of summation, so a result is
            the same in every batch only under the same value.
        config: tile sizes.
        out: contiguous, shape and dtype of `q`, to write to.
    """
    config = config or AttentionConfig()
    num_rows, n_heads, head_dim = q.shape
    n_kv_heads = keys.shape[1]
    group = n_heads // n_kv_heads
    assert config.queries % group == 0, "a tile holds whole groups of heads"
    assert q.is_contiguous()
    assert out is None or out.is_contiguous()
    assert keys.is_contiguous()
    assert values.is_contiguous()
    num_tiles = triton.cdiv(max_rows_per_call * group, config.queries)
    has_canvases = len(rows.canvas_start) > 0
    num_splits = has_canvases + triton.cdiv(max_prompt, split_keys) if split_keys else 1
    out = torch.empty_like(q) if out is None else out
    split_lse = split_out = out
    if num_splits > 1:
        split_out = torch.empty(num_splits, *q.shape, dtype=torch.float32, device=q.device)
        split_lse = torch.empty(num_splits, num_rows, n_heads, dtype=torch.float32, device=q.device)
    num_calls = len(rows.prompt_start)
    attention_kernel[num_calls * num_tiles, n_kv_heads, num_splits](
        TensorDescriptor.from_tensor(
            q.view(num_rows, -1), [config.queries // group, group * head_dim]
        ),
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
        CANVASES=int(has_canvases),
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        maxnreg=config.max_registers,
    )
    if num_splits > 1:
        merge_queries = max(MERGE_QUERIES, group)
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
            SPLITS=num_splits,
            CANVASES=int(has_canvases),
        )
    return out
