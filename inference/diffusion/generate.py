"""Free text by masked diffusion as LLaDA's authors publish it: blocks from left to right, so many steps for each.

LLaDA (arXiv 2502.09992), Algorithms 4 (random remasking) and 5 (low-confidence remasking), in semi-autoregressive
blocks: their `generate.py` at temperature 0, token for token. Records are decoded by the engine, under constraints;
this is for prompts without a schema, and the reference of what published checkpoints do by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch

from inference.diffusion.canvas_forward import CanvasForward, PromptCache
from inference.diffusion.model import LladaModel
from inference.diffusion.rules import Quota

Remasking = Literal["low_confidence", "random"]
"""Which predictions of a step are kept: those with the highest probability, or a random choice."""


@torch.inference_mode()
def generate_text(
    model: LladaModel,
    prompts: Sequence[Sequence[int]],
    *,
    num_tokens: int,
    num_steps: int,
    block_length: int | None = None,
    remasking: Remasking = "low_confidence",
    generator: torch.Generator | None = None,
    prompt_cache: PromptCache = "off",
    refresh_every: int = 8,
) -> list[list[int]]:
    """Continue every prompt by `num_tokens` tokens, all of them decided in `num_steps` forwards.

    Args:
        model: in evaluation mode.
        prompts: token ids, ragged; `DiffusionTokenizer.encode_user_message` writes the chat format.
        num_tokens: length of the continuations; the model ends a text before that with its end-of-text token.
        num_steps: forwards in all, the same number for each block, and at most one per token.
        block_length: a block is finished before the next one is begun; one block if not given.
        remasking: how a step chooses which of its predictions to keep.
        generator: of the numbers for `random`; torch's own if not given.
        prompt_cache: `off` is the published algorithm.
        refresh_every: steps from one encoding of the prompts to the next, for `refresh`.

    Raises:
        ValueError: the blocks do not divide the tokens, or the steps the blocks.
    """
    block_length = block_length or num_tokens
    steps_per_block = _steps_per_block(num_tokens, num_steps, block_length)
    mask_token_id, device = model.config.mask_token_id, model.head_weight.device
    tokens = torch.full((len(prompts), num_tokens), mask_token_id, device=device)
    forward = CanvasForward(model, prompts, prompt_cache=prompt_cache, refresh_every=refresh_every)
    longest = max(map(len, prompts))
    for start in range(0, num_tokens, block_length):
        in_block = torch.zeros(num_tokens, dtype=torch.bool, device=device)
        in_block[start : start + block_length] = True
        for quota in _quotas(block_length, steps_per_block):
            logits = model.logits(forward(tokens))
            choice = logits.argmax(-1)
            if remasking == "random":
                # drawn for the prompt's positions too, as published, so that the same generator gives the same text
                shape = (len(prompts), longest + num_tokens)
                drawn = torch.rand(shape, device=device, generator=generator)
                confidence = drawn[:, longest:]
            else:
                confidence = logits.softmax(-1).gather(-1, choice[..., None])[..., 0]
            is_open = (tokens == mask_token_id) & in_block
            tokens = torch.where(Quota(quota).choose(confidence, is_open), choice, tokens)
    return [list(row) for row in tokens.tolist()]


def _steps_per_block(num_tokens: int, num_steps: int, block_length: int) -> int:
    num_blocks, rest = divmod(num_tokens, block_length)
    if rest:
        raise ValueError(f"blocks of {block_length} do not divide {num_tokens} tokens")
    steps, rest = divmod(num_steps, num_blocks)
    if rest or not 1 <= steps <= block_length:
        raise ValueError(
            f"{num_steps} steps are not a whole number, from 1 to {block_length}, for each of {num_blocks} blocks"
        )
    return steps


def _quotas(num_masked: int, num_steps: int) -> Iterator[int]:
    """Tokens to keep in each step: spread evenly, the remainder over the first steps."""
    for step in range(num_steps):
        yield num_masked // num_steps + (step < num_masked % num_steps)
