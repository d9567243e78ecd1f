"""The packed trunk against forwards of the model without a cache."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from inference.diffusion import plain_trunk
from inference.diffusion.memory import Run
from inference.diffusion.model import LladaModel
from inference.diffusion.plain_trunk import PlainTrunk, Segment
from tests.models import DECODER_SHAPES, random_decoder

PROMPTS = [Run(2, 7), Run(30, 4)]  # rows between them belong to nobody
CANVASES = [Run(10, 6), Run(16, 3), Run(20, 5)]
PROMPT_OF = [0, 0, 1]
NUM_ROWS = 36


class Calls:
    """Two calls, one with two canvases; random tokens in every row."""

    def __init__(self, trunk: PlainTrunk) -> None:
        self.trunk = trunk
        self.tokens = torch.randint(0, 60, (NUM_ROWS,), generator=torch.Generator().manual_seed(2))

    def forward(self, prompts: list[int], opened: list[list[int]]) -> Tensor:
        """Hidden states of two in three open positions, with these prompts encoded on the way."""
        segments, positions, places = [], [], []
        for i in prompts:
            segments.append(Segment(PROMPTS[i].length, (PROMPTS[i],)))
            positions += range(PROMPTS[i].length)
            places += range(PROMPTS[i].start, PROMPTS[i].end)
        num_prompt_rows = len(places)
        for canvas, prompt, rows in zip(CANVASES, PROMPT_OF, opened, strict=True):
            segments.append(Segment(len(rows), (PROMPTS[prompt], canvas)))
            positions += [PROMPTS[prompt].length + row for row in rows]
            places += [canvas.start + row for row in rows]
        is_wanted = torch.arange(len(places)) - num_prompt_rows
        is_wanted = (is_wanted >= 0) & (is_wanted % 3 != 1)
        place = torch.tensor(places)
        return self.trunk(self.tokens[place], torch.tensor(positions), place, segments, is_wanted)

    def expected(self, model: LladaModel, opened: list[list[int]]) -> Tensor:
        """The same from forwards over a prompt and its canvas, in which the prompt does not see the canvas."""
        states = []
        for canvas, prompt, rows in zip(CANVASES, PROMPT_OF, opened, strict=True):
            own = [self.tokens[run.start : run.end] for run in (PROMPTS[prompt], canvas)]
            states.append(uncached(model, *own)[rows])
        states = torch.cat(states)
        return states[torch.arange(len(states)) % 3 != 1]


def uncached(model: LladaModel, prompt: Tensor, canvas: Tensor) -> Tensor:
    """Hidden states of the canvas."""
    tokens = torch.cat([prompt, canvas])
    sees = torch.ones(len(tokens), len(tokens), dtype=torch.bool)
    sees[: len(prompt), len(prompt) :] = False

    def attend(_layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        groups = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(q.shape[-1])
        weights = scores.masked_fill(~sees, -torch.inf).softmax(-1)
        return torch.einsum("hqk,khd->qhd", weights, v)

    return model.trunk(tokens, torch.arange(len(tokens)), attend)[len(prompt) :]


EVERYTHING = [list(range(canvas.length)) for canvas in CANVASES]
FEW = [[1, 4], [2], [0]]
NOTHING: list[list[int]] = [[], [], []]


@pytest.mark.parametrize("rows_at_once", [2_048, 5])
@pytest.mark.parametrize("shape", DECODER_SHAPES)
@torch.inference_mode()
def test_prompts_and_canvases_together_equal_uncached_forwards(shape, rows_at_once, monkeypatch):
    monkeypatch.setattr(plain_trunk, "ROWS_AT_ONCE", rows_at_once)
    model = random_decoder(shape)
    calls = Calls(PlainTrunk(model, NUM_ROWS, is_narrow=False))
    found = calls.forward([0, 1], EVERYTHING)
    expected = calls.expected(model, EVERYTHING)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    # Few positions again, given alone: what they see of the others comes from the cache.
    found = calls.forward([], FEW)
    torch.testing.assert_close(found, calls.expected(model, FEW), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_prompt_may_come_before_its_canvases():
    model = random_decoder("gqa_tied")
    calls = Calls(PlainTrunk(model, NUM_ROWS, is_narrow=False))
    assert calls.forward([1, 0], NOTHING).shape == (0, model.config.d_model)
    found = calls.forward([], EVERYTHING)
    expected = calls.expected(model, EVERYTHING)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_narrow_products_round_and_nothing_more():
    model = random_decoder("gqa_tied")
    wide = Calls(PlainTrunk(model, NUM_ROWS, is_narrow=False)).forward([0, 1], EVERYTHING)
    narrow = Calls(PlainTrunk(model, NUM_ROWS, is_narrow=True)).forward([0, 1], EVERYTHING)
    assert narrow.dtype == torch.float32
    assert 0 < (narrow - wide).norm() / wide.norm() < 0.02
