"""The plain decoder on a tiny random checkpoint: what it tells of a canvas, and what keeping prompts may change."""

from __future__ import annotations

import pytest
import torch

from inference.diffusion.reference import decode_canvases
from inference.diffusion.structured.scaffold import compile_scaffold
from inference.diffusion.tokenizer import train_tokenizer
from inference.training.dllm.start import embedded_config, fresh_model

TEXTS = ("1 agent: Thanks for calling, how can I help?", "2 caller: a cleaning on Tuesday, please.")
SCHEMA = {
    "type": "object",
    "properties": {
        "mood": {"enum": ["good", "bad"]},
        "wish": {"type": "string", "maxLength": 20},
    },
    "required": ["mood", "wish"],
}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS * 3, vocab_size=320)


@pytest.fixture(scope="module")
def model(tokenizer):
    config = embedded_config(tokenizer, d_model=32, n_layers=3, n_heads=2, mlp_hidden_size=48)
    return fresh_model(config, seed=1, device=torch.device("cpu")).eval()


@pytest.fixture(scope="module")
def scaffold(tokenizer):
    return compile_scaffold(SCHEMA, tokenizer, instructions="Fill in.", name="record", num_turns=2)


@pytest.fixture(scope="module")
def prompts(tokenizer):
    return [tokenizer.encode_user_message(text) for text in (TEXTS[0], "\n".join(TEXTS))]


def test_it_tells_when_each_position_was_committed(model, tokenizer, prompts, scaffold):
    slots = set(scaffold.slot_positions())
    for canvas in decode_canvases(model, tokenizer, prompts, scaffold, threshold=2.0):
        assert tokenizer.mask_token_id not in canvas.tokens
        committed = [step for i, step in enumerate(canvas.steps) if i in slots]
        assert sorted(committed) == list(range(1, len(slots) + 1)), "one token per step"
        assert canvas.num_steps == len(slots)
        for i, fixed in enumerate(scaffold.tokens):
            if i not in slots:
                assert (canvas.tokens[i], canvas.steps[i], canvas.confidence[i]) == (fixed, 0, 1.0)


def test_the_last_allowed_step_commits_what_is_left(model, tokenizer, prompts, scaffold):
    for canvas in decode_canvases(model, tokenizer, prompts, scaffold, threshold=2.0, max_steps=3):
        assert canvas.num_steps == 3
        assert tokenizer.mask_token_id not in canvas.tokens


@pytest.mark.parametrize("prompt_cache", ["off", "refresh"])
def test_for_a_prompt_isolated_checkpoint_keeping_prompts_changes_no_record(
    model, tokenizer, prompts, scaffold, prompt_cache
):
    assert model.config.prompt_isolated
    frozen = decode_canvases(model, tokenizer, prompts, scaffold)
    other = decode_canvases(
        model, tokenizer, prompts, scaffold, prompt_cache=prompt_cache, refresh_every=2
    )
    assert [canvas.tokens for canvas in other] == [canvas.tokens for canvas in frozen]
    assert [canvas.steps for canvas in other] == [canvas.steps for canvas in frozen]
