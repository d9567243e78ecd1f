"""The published decoding of LLaDA-8B with Fast-dLLM's dual cache (arXiv 2505.22618), one call at a time.

The output is a row of masks behind the prompt, decoded block after block. A block begins with a forward over
everything, which writes the keys and values of all positions and also commits; further forwards compute the block
alone, attend to all cached positions, and overwrite the block's own. Each forward commits the most confident tokens by
the softmax of the full logits in float64. Unlike the published code this one caches keys after their rotation and never
waits for the device inside a call, so it is faster than what was published.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from inference.diffusion.model import Attend, LladaModel

BLOCK_LENGTH = 32


class DualCacheDecoder:
    """Semi-autoregressive decoding with a planted schedule: so many tokens of the block in every forward."""

    def __init__(
        self, model: LladaModel, *, tokens_per_forward: int, block_length: int = BLOCK_LENGTH
    ) -> None:
        self._model = model
        self._tokens_per_forward = tokens_per_forward
        self._block_length = block_length
        self._device = model.head_weight.device
        self.num_forwards = 0

    @torch.inference_mode()
    def decode(self, prompt: Sequence[int], num_tokens: int) -> list[int]:
        """The `num_tokens` that follow the prompt."""
        mask = self._model.config.mask_token_id
        tokens = torch.tensor([*prompt, *[mask] * num_tokens], device=self._device)
        for start in range(len(prompt), len(tokens), self._block_length):
            end = min(start + self._block_length, len(tokens))
            cache: list[tuple[Tensor, Tensor]] = []
            logits = self._forward(tokens, 0, len(tokens), _fill(cache))
            self._commit(tokens, logits, 0, start, end)
            for _ in range(self._tokens_per_forward, end - start, self._tokens_per_forward):
                logits = self._forward(tokens, start, end, _overwrite(cache, start, end))
                self._commit(tokens, logits, start, start, end)
        return tokens[len(prompt) :].tolist()

    def _forward(self, tokens: Tensor, start: int, end: int, attend: Attend) -> Tensor:
        """Logits of the positions from `start` to `end`, `[end - start, vocab]`."""
        self.num_forwards += 1
        positions = torch.arange(start, end, device=self._device)
        return self._model.logits(self._model.trunk(tokens[start:end], positions, attend))

    def _commit(self, tokens: Tensor, logits: Tensor, first: int, start: int, end: int) -> None:
        """Write the most confident masked tokens of the block; row 0 of `logits` is position `first`."""
        token = logits.argmax(-1)
        confidence = logits.double().softmax(-1).gather(-1, token[:, None])[:, 0]
        block = slice(start - first, end - first)
        masked = tokens[start:end] == self._model.config.mask_token_id
        confidence = confidence[block].masked_fill(~masked, -torch.inf)
        chosen = confidence.topk(min(self._tokens_per_forward, end - start)).indices
        # the last forward of a block has fewer masked positions left than it may commit
        written = torch.where(masked[chosen], token[block][chosen], tokens[start:end][chosen])
        tokens[start:end].scatter_(0, chosen, written)


def _fill(cache: list[tuple[Tensor, Tensor]]) -> Attend:
    """Attention of everything over everything, which leaves keys and values in `cache`."""

    def attend(_layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        cache.append((k, v))
        return _attend(q, k, v)

    return attend


def _overwrite(cache: list[tuple[Tensor, Tensor]], start: int, end: int) -> Attend:
    """Attention of one block over everything, with its own keys and values renewed."""

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = cache[layer]
        keys[start:end], values[start:end] = k, v
        return _attend(q, keys, values)

    return attend


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=q.shape[1] != k.shape[1])[
        0
    ].transpose(0, 1)
