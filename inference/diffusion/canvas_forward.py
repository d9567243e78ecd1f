"""The forward of the plain decoders: a batch of canvases of one length, each behind its own prompt.

What the model is defined to see decides what may be kept between steps. In a published checkpoint every position sees
every other, the prompt its canvas too, so the prompt's keys and values change with each commit; keeping them is an
approximation. In a checkpoint trained with a prompt-isolated mask prompts do not see their canvas, and it is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from inference.diffusion.model import LladaModel

PromptCache = Literal["frozen", "refresh", "off"]
"""`frozen`: encode prompts once, without canvases in view. `refresh`: again every few steps, with their canvases in
view. `off`: in every step, which is the model as it is defined."""


class CanvasForward:
    """Hidden states of canvases, step after step."""

    def __init__(
        self,
        model: LladaModel,
        prompts: Sequence[Sequence[int]],
        *,
        prompt_cache: PromptCache = "frozen",
        refresh_every: int = 8,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Encode the prompts if that is done once.

        Args:
            model: in evaluation mode. If its config says `prompt_isolated`, prompts never see their canvas, and all
                ways of keeping them give the same.
            prompts: token ids, ragged.
            prompt_cache: how long the prompts' keys and values are kept.
            refresh_every: steps from one encoding of the prompts to the next, for `refresh`.
            dtype: what to compute in; the dtype of the weights if not given.
        """
        self._model, self._dtype = model, dtype
        self._period = {"frozen": None, "refresh": refresh_every, "off": 1}[prompt_cache]
        self._num_steps = 0
        device = model.head_weight.device
        self._prompts, self._is_prompt = _padded(prompts, model.config.pad_token_id, device)
        self._positions = torch.arange(self._prompts.shape[1], device=device)
        self._cache: list[tuple[Tensor, Tensor]] = []
        if self._period is None:
            self._encode_prompts()

    def __call__(self, tokens: Tensor) -> Tensor:
        """Canvas ids `[num_canvases, length]` to final hidden states `[num_canvases, length, d_model]`."""
        is_due = self._period is not None and self._num_steps % self._period == 0
        self._num_steps += 1
        return self._encode_everything(tokens) if is_due else self._encode_canvases(tokens)

    def _encode_prompts(self) -> None:
        self._cache.clear()

        def attend(_layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self._cache.append((k, v))
            return _attend(q, k, v, self._is_prompt[:, None, None, :])

        self._model.trunk(self._prompts, self._positions, attend, dtype=self._dtype)

    def _encode_canvases(self, tokens: Tensor) -> Tensor:
        """The canvases alone, over the keys and values that the prompts had last."""
        is_key = self._is_prompt_or_canvas(tokens)[:, None, None, :]

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            prompt_k, prompt_v = self._cache[layer]
            return _attend(q, torch.cat([prompt_k, k], 1), torch.cat([prompt_v, v], 1), is_key)

        return self._model.trunk(tokens, self._canvas_positions(tokens), attend, dtype=self._dtype)

    def _encode_everything(self, tokens: Tensor) -> Tensor:
        """Prompts and canvases in one sequence; the prompts' keys and values are kept."""
        self._cache.clear()
        num_prompt, num_all = len(self._positions), len(self._positions) + tokens.shape[1]
        mask = self._is_prompt_or_canvas(tokens)[:, None, None, :].expand(-1, 1, num_all, -1)
        if self._model.config.prompt_isolated:
            mask = mask.clone()
            mask[:, :, :num_prompt, num_prompt:] = False

        def attend(_layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self._cache.append((k[:, :num_prompt], v[:, :num_prompt]))
            return _attend(q, k, v, mask)

        canvas_positions = self._canvas_positions(tokens)
        positions = torch.cat([self._positions.expand(len(tokens), -1), canvas_positions], 1)
        everything = torch.cat([self._prompts, tokens], 1)
        hidden = self._model.trunk(everything, positions, attend, dtype=self._dtype)
        return hidden[:, num_prompt:]

    def _canvas_positions(self, tokens: Tensor) -> Tensor:
        lengths = self._is_prompt.sum(1, keepdim=True)
        return lengths + torch.arange(tokens.shape[1], device=tokens.device)

    def _is_prompt_or_canvas(self, tokens: Tensor) -> Tensor:
        return torch.cat([self._is_prompt, torch.ones_like(tokens, dtype=torch.bool)], 1)


def _padded(
    prompts: Sequence[Sequence[int]], pad_token_id: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Prompts as `[count, longest]` token ids, and which of them are real."""
    longest = max(map(len, prompts))
    rows = [[*prompt, *[pad_token_id] * (longest - len(prompt))] for prompt in prompts]
    lengths = torch.tensor([[len(prompt)] for prompt in prompts], device=device)
    return torch.tensor(rows, device=device), torch.arange(longest, device=device) < lengths


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask,
        enable_gqa=q.shape[2] != k.shape[2],
    )
    return out.transpose(1, 2)
