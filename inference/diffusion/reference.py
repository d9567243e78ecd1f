"""The plain decoder: one padded batch, every canvas position in every step, confidences from a full softmax.

It is slow and easy to believe. Training measures itself with it, and the engine is compared with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import torch
import torch.nn.functional as F
from torch import Tensor

from inference.diffusion.model import Attend, LladaModel
from inference.diffusion.scaffold import Scaffold
from inference.diffusion.tokenizer import DiffusionTokenizer


@dataclass(frozen=True, slots=True)
class DecodedCanvas:
    """A finished canvas; `confidence` is the probability of each slot position when committed, 1.0 elsewhere."""

    tokens: tuple[int, ...]
    confidence: tuple[float, ...]
    num_steps: int


@torch.inference_mode()
def decode_canvases(
    model: LladaModel,
    tokenizer: DiffusionTokenizer,
    prompts: Sequence[Sequence[int]],
    scaffold: Scaffold,
    *,
    threshold: float = 0.9,
    max_steps: int | None = None,
    dtype: torch.dtype | None = None,
) -> list[DecodedCanvas]:
    """Fill one scaffold for every prompt: threshold commits, the most confident position always among them.

    The prompts are encoded once, without the canvas in view. A slot takes any ordinary token or PAD: nothing keeps it
    to its language.

    Args:
        model: in evaluation mode.
        tokenizer: of the same checkpoint.
        prompts: token ids, ragged.
        scaffold: the same for all prompts.
        threshold: smallest probability to commit at; above 1, one token is committed per step.
        max_steps: the last of so many steps commits everything that is left.
        dtype: what to compute in; the dtype of the weights if not given.
    """
    device = model.head_weight.device
    prompt_ids, valid = _pad(prompts, tokenizer.pad_token_id, device)
    tokens = torch.tensor(scaffold.tokens, device=device).repeat(len(prompts), 1)
    lengths = valid.sum(1, keepdim=True)
    positions = lengths + torch.arange(tokens.shape[1], device=device)
    attend_prompt, cache = _prompt_attention(valid)
    model.trunk(
        prompt_ids, torch.arange(prompt_ids.shape[1], device=device), attend_prompt, dtype=dtype
    )
    forbidden = _forbidden(tokenizer, model.config.embedding_size, device)
    confidence = torch.ones(tokens.shape, device=device)
    steps = torch.zeros(len(prompts), dtype=torch.int64, device=device)
    for step in count(1):
        masked = tokens == tokenizer.mask_token_id
        if not masked.any():
            break
        hidden = model.trunk(tokens, positions, _canvas_attention(valid, cache), dtype=dtype)
        logits = model.logits(hidden[masked]).float().masked_fill(forbidden, -torch.inf)
        probability = torch.full(tokens.shape, -1.0, device=device)
        choice = tokens.clone()
        probability[masked], choice[masked] = logits.softmax(-1).max(-1)
        best = F.one_hot(probability.argmax(1), tokens.shape[1]).bool()
        commit = masked & ((probability >= threshold) | best)
        if step == max_steps:
            commit = masked
        steps += masked.any(1)
        tokens = torch.where(commit, choice, tokens)
        confidence = torch.where(commit, probability, confidence)
    rows = zip(tokens.tolist(), confidence.tolist(), steps.tolist(), strict=True)
    return [DecodedCanvas(tuple(ids), tuple(values), count) for ids, values, count in rows]


def slot_matches(
    scaffold: Scaffold, found: Sequence[int], expected: Sequence[int]
) -> Iterator[tuple[str, bool]]:
    """For every slot its JSON pointer, and whether its tokens are those of the expected canvas."""
    for span in scaffold.spans:
        positions = slice(span.start, span.start + span.num_tokens)
        yield span.slot.pointer, list(found[positions]) == list(expected[positions])


def _pad(
    prompts: Sequence[Sequence[int]], pad_token_id: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Prompts as `[count, longest]` token ids, and which of them are real."""
    longest = max(map(len, prompts))
    rows = [[*prompt, *[pad_token_id] * (longest - len(prompt))] for prompt in prompts]
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    return torch.tensor(rows, device=device), torch.arange(longest, device=device) < lengths[
        :, None
    ]


def _forbidden(tokenizer: DiffusionTokenizer, num_ids: int, device: torch.device) -> Tensor:
    """True for ids that no slot may hold: special tokens except PAD, and ids without a token."""
    table = tokenizer.token_bytes
    allowed = [
        (i < len(table) and bool(table[i])) or i == tokenizer.pad_token_id for i in range(num_ids)
    ]
    return ~torch.tensor(allowed, device=device)


_Cache = list[tuple[Tensor, Tensor]]


def _prompt_attention(valid: Tensor) -> tuple[Attend, _Cache]:
    cache: _Cache = []

    def attend(_layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        cache.append((k, v))
        return _attend(q, k, v, valid[:, None, None, :])

    return attend, cache


def _canvas_attention(valid: Tensor, cache: _Cache) -> Attend:
    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        prompt_k, prompt_v = cache[layer]
        own = torch.ones(k.shape[:2], dtype=torch.bool, device=k.device)
        mask = torch.cat([valid, own], dim=1)[:, None, None, :]
        return _attend(q, torch.cat([prompt_k, k], dim=1), torch.cat([prompt_v, v], dim=1), mask)

    return attend


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask,
        enable_gqa=q.shape[2] != k.shape[2],
    )
    return out.transpose(1, 2)
