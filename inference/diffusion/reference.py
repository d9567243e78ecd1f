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

from inference.diffusion.canvas_forward import CanvasForward, PromptCache
from inference.diffusion.model import LladaModel
from inference.diffusion.structured.scaffold import Scaffold
from inference.diffusion.tokenizer import DiffusionTokenizer


@dataclass(frozen=True, slots=True)
class DecodedCanvas:
    """A finished canvas.

    Attributes:
        tokens: ids of the whole canvas.
        confidence: the probability of each slot position when committed, 1.0 elsewhere.
        steps: the step in which each slot position was committed, from 1; 0 elsewhere.
        num_steps: steps until nothing was masked.
    """

    tokens: tuple[int, ...]
    confidence: tuple[float, ...]
    steps: tuple[int, ...]
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
    prompt_cache: PromptCache = "frozen",
    refresh_every: int = 8,
    dtype: torch.dtype | None = None,
) -> list[DecodedCanvas]:
    """Fill one scaffold for every prompt: threshold commits, the most confident position always among them.

    A slot takes any ordinary token or PAD: nothing keeps it to its language.

    Args:
        model: in evaluation mode.
        tokenizer: of the same checkpoint.
        prompts: token ids, ragged.
        scaffold: the same for all prompts.
        threshold: smallest probability to commit at; above 1, one token is committed per step.
        max_steps: the last of so many steps commits everything that is left.
        prompt_cache: how long the keys and values of the prompts are kept.
        refresh_every: steps from one encoding of the prompts to the next, for `refresh`.
        dtype: what to compute in; the dtype of the weights if not given.
    """
    device = model.head_weight.device
    tokens = torch.tensor(scaffold.tokens, device=device).repeat(len(prompts), 1)
    forward = CanvasForward(
        model, prompts, prompt_cache=prompt_cache, refresh_every=refresh_every, dtype=dtype
    )
    forbidden = _forbidden(tokenizer, model.config.embedding_size, device)
    confidence = torch.ones(tokens.shape, device=device)
    steps = torch.zeros_like(tokens)
    for step in count(1):
        masked = tokens == tokenizer.mask_token_id
        if not masked.any():
            break
        logits = model.logits(forward(tokens)[masked]).float().masked_fill(forbidden, -torch.inf)
        probability = torch.full(tokens.shape, -1.0, device=device)
        choice = tokens.clone()
        probability[masked], choice[masked] = logits.softmax(-1).max(-1)
        best = F.one_hot(probability.argmax(1), tokens.shape[1]).bool()
        commit = masked & ((probability >= threshold) | best)
        if step == max_steps:
            commit = masked
        steps = steps.masked_fill(commit, step)
        tokens = torch.where(commit, choice, tokens)
        confidence = torch.where(commit, probability, confidence)
    rows = zip(tokens.tolist(), confidence.tolist(), steps.tolist(), strict=True)
    return [
        DecodedCanvas(tuple(ids), tuple(values), tuple(at), max(at)) for ids, values, at in rows
    ]


def slot_matches(
    scaffold: Scaffold, found: Sequence[int], expected: Sequence[int]
) -> Iterator[tuple[str, bool]]:
    """For every slot its JSON pointer, and whether its tokens are those of the expected canvas."""
    for span in scaffold.spans:
        positions = slice(span.start, span.start + span.num_tokens)
        yield span.slot.pointer, list(found[positions]) == list(expected[positions])


def _forbidden(tokenizer: DiffusionTokenizer, num_ids: int, device: torch.device) -> Tensor:
    """True for ids that no slot may hold: special tokens except PAD, and ids without a token."""
    table = tokenizer.token_bytes
    allowed = [
        (i < len(table) and bool(table[i])) or i == tokenizer.pad_token_id for i in range(num_ids)
    ]
    return ~torch.tensor(allowed, device=device)
