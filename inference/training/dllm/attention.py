"""Attention over packed training rows: a prompt sees itself, a canvas sees its prompt and itself."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from inference.training.dllm.data import Batch


class PackedAttention:
    """The `attend` function of training. Call `load` with each batch before the forward pass.

    `flex` compiles a block-sparse kernel (GPU). `dense` is the same mask written out, `[rows, length, length]`, through
    SDPA: the truth that flex is tested against, and what a CPU runs.
    """

    def __init__(
        self,
        rows: int,
        length: int,
        device: torch.device,
        kind: Literal["flex", "dense"],
        *,
        compiled: bool = True,
    ) -> None:
        # Filled in place, so that the mask function is one object for the whole run and is compiled once.
        call_ids = torch.zeros(rows, length, dtype=torch.int32, device=device)
        canvas_ids = torch.zeros(rows, length, dtype=torch.int32, device=device)

        def sees(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            key_canvas = canvas_ids[row, key]
            same_call = call_ids[row, query] == call_ids[row, key]
            return same_call & ((key_canvas == 0) | (key_canvas == canvas_ids[row, query]))

        self._call_ids, self._canvas_ids, self._sees = call_ids, canvas_ids, sees
        self._kind = kind
        self._block_mask: BlockMask | None = None
        self._dense_mask: Tensor | None = None
        self._make_block_mask: Any = (
            torch.compile(create_block_mask) if compiled else create_block_mask
        )
        self._flex: Any = (
            torch.compile(flex_attention, dynamic=False) if compiled else flex_attention
        )

    def load(self, batch: Batch) -> None:
        """Take over the layout of a batch whose tensors are on the device already."""
        self._call_ids.copy_(batch.call_ids)
        self._canvas_ids.copy_(batch.canvas_ids)
        rows, length = self._call_ids.shape
        if self._kind == "flex":
            self._block_mask = self._make_block_mask(
                self._sees, rows, None, length, length, device=self._call_ids.device.type
            )
        else:
            row = torch.arange(rows, device=self._call_ids.device)[:, None, None]
            token = torch.arange(length, device=self._call_ids.device)
            self._dense_mask = self._sees(row, row, token[:, None], token[None, :])[:, None]

    def __call__(self, _layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """`q [rows, length, n_heads, head_dim]`, `k` and `v` with `n_kv_heads`; returns the shape of `q`."""
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        grouped = q.shape[1] != k.shape[1]
        if self._kind == "flex":
            out = self._flex(q, k, v, block_mask=self._block_mask, enable_gqa=grouped)
        else:
            out = F.scaled_dot_product_attention(
                q, k, v, attn_mask=self._dense_mask, enable_gqa=grouped
            )
        return out.transpose(1, 2)
