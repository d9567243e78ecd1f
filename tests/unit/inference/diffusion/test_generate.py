"""Parity: our decoding without a cache is the published generation, token for token, and what the caches may change."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from inference.diffusion.canvas_forward import CanvasForward
from inference.diffusion.config import LladaConfig
from inference.diffusion.generate import generate_text
from inference.diffusion.model import LladaModel, attend_all
from tests.models import random_weights

MASK, PAD = 60, 59
PROMPTS = [[3, 17, 17, 42, 5, 8, 1], [9, 4, 11]]


def random_model(*, n_layers: int = 3, prompt_isolated: bool = False) -> LladaModel:
    config = LladaConfig.from_dict(
        {
            "d_model": 32,
            "n_layers": n_layers,
            "n_heads": 4,
            "n_kv_heads": 2,
            "mlp_hidden_size": 52,
            "vocab_size": 61,
            "embedding_size": 64,
            "max_sequence_length": 128,
            "weight_tying": False,
            "mask_token_id": MASK,
            "eos_token_id": PAD,
            "aftercall_prompt_isolated": prompt_isolated,
        }
    )
    return random_weights(config, seed=11)


def everything(model: LladaModel, ids: Tensor) -> Tensor:
    """Hidden states of one sequence that sees all of itself."""
    return model.trunk(ids, torch.arange(len(ids)), lambda _layer, q, k, v: attend_all(q, k, v))


@torch.inference_mode()
def published_generate(
    model: LladaModel,
    prompt: list[int],
    *,
    steps: int,
    gen_length: int,
    block_length: int,
    remasking: str,
    generator: torch.Generator,
) -> list[int]:
    """The published loop at temperature 0, as its description has it: one sequence, position by position."""
    x = torch.tensor([*prompt, *[MASK] * gen_length])
    num_blocks = gen_length // block_length
    for block in range(num_blocks):
        block_end = len(prompt) + (block + 1) * block_length
        masked_in_block = int((x[block_end - block_length : block_end] == MASK).sum())
        base, rest = divmod(masked_in_block, steps // num_blocks)
        for step in range(steps // num_blocks):
            logits = model.logits(everything(model, x))
            x0 = logits.argmax(-1)
            if remasking == "low_confidence":
                probability = logits.softmax(-1)
                x0_p = torch.tensor([float(probability[i, x0[i]]) for i in range(len(x))])
            else:
                x0_p = torch.rand((1, len(x)), generator=generator)[0]
            x0_p[block_end:] = -torch.inf
            confidence = torch.where(x == MASK, x0_p, -torch.inf)
            chosen = confidence.topk(base + (1 if step < rest else 0)).indices
            x[chosen] = x0[chosen]
    return x[len(prompt) :].tolist()


# (steps, gen_length, block_length); the quota of a step is 1, then 2, then 2 and 1, then a block, then all
SCHEDULES = [(12, 12, 4), (6, 12, 4), (6, 9, 9), (3, 12, 4), (1, 12, 12)]


@pytest.mark.parametrize(("steps", "gen_length", "block_length"), SCHEDULES)
@pytest.mark.parametrize("remasking", ["low_confidence", "random"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_without_a_cache_it_is_the_published_generation(
    prompt, remasking, steps, gen_length, block_length
):
    model = random_model()
    expected = published_generate(
        model,
        prompt,
        steps=steps,
        gen_length=gen_length,
        block_length=block_length,
        remasking=remasking,
        generator=torch.Generator().manual_seed(3),
    )
    (found,) = generate_text(
        model,
        [prompt],
        num_tokens=gen_length,
        num_steps=steps,
        block_length=block_length,
        remasking=remasking,
        generator=torch.Generator().manual_seed(3),
    )
    assert found == expected


def test_prompts_of_other_lengths_beside_it_change_nothing():
    model = random_model()
    together = generate_text(model, PROMPTS, num_tokens=16, num_steps=8, block_length=8)
    alone = [
        generate_text(model, [prompt], num_tokens=16, num_steps=8, block_length=8)[0]
        for prompt in PROMPTS
    ]
    assert together == alone


@pytest.mark.parametrize(
    ("num_tokens", "num_steps", "block_length"), [(24, 24, 7), (24, 7, 8), (24, 48, 8), (24, 0, 8)]
)
def test_a_schedule_that_does_not_come_out_even_is_refused(num_tokens, num_steps, block_length):
    with pytest.raises(ValueError, match=r"divide|whole number"):
        generate_text(
            random_model(),
            PROMPTS,
            num_tokens=num_tokens,
            num_steps=num_steps,
            block_length=block_length,
        )


def canvases_step_by_step() -> list[Tensor]:
    """What canvases look like in three steps of decoding."""
    first = torch.full((2, 6), MASK)
    second, third = first.clone(), first.clone()
    second[:, 1] = torch.tensor([7, 30])
    third[:, 1:5] = torch.tensor([[7, 2, 2, 50], [30, 1, 0, 12]])
    return [first, second, third]


def hidden_by_step(model: LladaModel, prompt_cache: str, refresh_every: int = 8) -> list[Tensor]:
    forward = CanvasForward(model, PROMPTS, prompt_cache=prompt_cache, refresh_every=refresh_every)
    with torch.inference_mode():
        return [forward(canvases) for canvases in canvases_step_by_step()]


def test_off_is_the_whole_sequence_anew_in_every_step():
    model = random_model()
    for canvases, hidden in zip(canvases_step_by_step(), hidden_by_step(model, "off"), strict=True):
        for prompt, canvas, found in zip(PROMPTS, canvases, hidden, strict=True):
            with torch.inference_mode():
                expected = everything(model, torch.cat([torch.tensor(prompt), canvas]))
            torch.testing.assert_close(found, expected[len(prompt) :], rtol=1e-4, atol=1e-5)


def test_refreshing_in_every_step_is_off_and_less_often_is_stale_in_between():
    model = random_model()
    off = hidden_by_step(model, "off")
    for found, expected in zip(hidden_by_step(model, "refresh", 1), off, strict=True):
        assert torch.equal(found, expected)
    second = hidden_by_step(model, "refresh", 2)
    assert torch.equal(second[0], off[0])
    assert not torch.allclose(second[1], off[1], atol=1e-3)
    assert torch.equal(second[2], off[2])


def test_a_prompt_that_does_not_see_its_canvas_can_be_kept():
    isolated, published = random_model(prompt_isolated=True), random_model()
    frozen = hidden_by_step(isolated, "frozen")
    for found, expected in zip(hidden_by_step(isolated, "off"), frozen, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for found, expected in zip(hidden_by_step(published, "frozen"), frozen, strict=True):
        assert torch.equal(found, expected)
    assert not torch.allclose(hidden_by_step(published, "off")[0], frozen[0], atol=1e-3)


def test_in_one_layer_nothing_that_is_kept_depends_on_the_canvas():
    model = random_model(n_layers=1)
    for found, expected in zip(
        hidden_by_step(model, "frozen"), hidden_by_step(model, "off"), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
