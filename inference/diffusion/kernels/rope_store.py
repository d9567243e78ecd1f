"""Rotation of new queries and keys, and the scatter of keys and values into their cache, in one pass."""
# ruff: noqa: N803 -- parameters in capitals are compile-time constants
# mypy: allow-untyped-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _rotate_heads(
    p_from, p_to, cos, sin, m_to, NUM_HEADS: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr
):
    """Rotate the heads of one row: dimension i pairs with i + HALF."""
    i_head = tl.arange(0, HEADS)[:, None]
    o_first = i_head * (2 * HALF) + tl.arange(0, HALF)[None, :]
    m_head = i_head < NUM_HEADS
    first = tl.load(p_from + o_first, mask=m_head, other=0.0).to(tl.float32)
    second = tl.load(p_from + o_first + HALF, mask=m_head, other=0.0).to(tl.float32)
    tl.store(p_to + o_first, first * cos - second * sin, mask=m_head & m_to)
    tl.store(p_to + o_first + HALF, second * cos + first * sin, mask=m_head & m_to)


@triton.jit
def rotate_and_store_kernel(
    p_q,
    p_k,
    p_v,
    p_positions,
    p_cache_rows,
    p_cos,
    p_sin,
    p_rotated,
    p_keys,
    p_values,
    stride_q,
    stride_k,
    stride_v,
    N_HEADS: tl.constexpr,
    N_KV_HEADS: tl.constexpr,
    Q_HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
):
    """See `naive.rotate_and_store`: one program per row and task (queries; keys; values)."""
    i_row = tl.program_id(0).to(tl.int64)
    position = tl.load(p_positions + i_row).to(tl.int64)
    cache_row = tl.load(p_cache_rows + i_row).to(tl.int64)
    is_kept = cache_row >= 0
    cos = tl.load(p_cos + position * HALF + tl.arange(0, HALF))[None, :]
    sin = tl.load(p_sin + position * HALF + tl.arange(0, HALF))[None, :]
    o_cache = cache_row * (N_KV_HEADS * 2 * HALF)
    if tl.program_id(1) == 0:
        p_to = p_rotated + i_row * (N_HEADS * 2 * HALF)
        _rotate_heads(p_q + i_row * stride_q, p_to, cos, sin, True, N_HEADS, Q_HEADS, HALF)
    elif tl.program_id(1) == 1:
        p_from = p_k + i_row * stride_k
        _rotate_heads(p_from, p_keys + o_cache, cos, sin, is_kept, N_KV_HEADS, KV_HEADS, HALF)
    else:
        o_value = tl.arange(0, KV_HEADS * 2 * HALF)
        m_value = o_value < N_KV_HEADS * 2 * HALF
        value = tl.load(p_v + i_row * stride_v + o_value, mask=m_value, other=0.0)
        tl.store(p_values + o_cache + o_value, value, mask=m_value & is_kept)


def rotate_and_store(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    positions: Tensor,
    cache_rows: Tensor,
    cos: Tensor,
    sin: Tensor,
    keys: Tensor,
    values: Tensor,
) -> Tensor:
    """Rotate queries and keys, and write keys and values into a cache, as `naive.rotate_and_store` does.

    `q`, `k` and `v` may be slices of one projection; only their heads must be contiguous. `head_dim` is a power of two.
    """
    num_rows, n_heads, head_dim = q.shape
    n_kv_heads = k.shape[1]
    assert all(x.stride()[1:] == (head_dim, 1) for x in (q, k, v)), "heads must be contiguous"
    assert keys.is_contiguous()
    assert values.is_contiguous()
    rotated = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    rotate_and_store_kernel[num_rows, 3](
        q,
        k,
        v,
        positions,
        cache_rows,
        cos,
        sin,
        rotated,
        keys,
        values,
        q.stride(0),
        k.stride(0),
        v.stride(0),
        N_HEADS=n_heads,
        N_KV_HEADS=n_kv_heads,
        Q_HEADS=triton.next_power_of_2(n_heads),
        KV_HEADS=triton.next_power_of_2(n_kv_heads),
        HALF=head_dim // 2,
    )
    return rotated
