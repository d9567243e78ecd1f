"""A training run: optimiser, learning, being killed and resumed, refusing what does not fit."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from inference.diffusion.checkpoint import load_model
from inference.diffusion.model import attend_all
from inference.diffusion.reference import decode_canvases
from inference.diffusion.tokenizer import DiffusionTokenizer
from inference.training.dllm import (
    TrainingError,
    embedded_config,
    train_dllm,
)
from inference.training.dllm.canvas import compile_branches, encode_call
from inference.training.dllm.optimizer import DllmOptimizer, orthogonalise
from inference.training.dllm.start import fresh_model, trained_parameters
from tests.unit.inference.training.tiny_run import (
    BRANCHES,
    CPU,
    HELD_OUT,
    events,
    examples,
    settings,
    small_model,
)


@pytest.mark.parametrize("shape", [(3, 12, 24), (1, 40, 16), (2, 16, 40)])
def test_orthogonalised_updates_have_singular_values_near_one(shape: tuple[int, int, int]):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(4)) * 1e-3
    values = torch.linalg.svdvals(orthogonalise(matrices).float())
    assert values.min() > 0.4
    assert values.max() < 1.4


def test_muon_takes_matrices_of_blocks_and_adam_the_rest(tokenizer: DiffusionTokenizer):
    config = embedded_config(tokenizer, d_model=32, n_layers=2, n_heads=2, mlp_hidden_size=48)
    model = fresh_model(config, seed=1, device=CPU)
    matrices, others = trained_parameters(model)
    assert len(matrices) == 14
    assert {parameter.shape for parameter in others} == {
        torch.Size([32]),
        torch.Size([config.embedding_size, 32]),
    }


def test_optimiser_state_goes_on_exactly():
    def fresh() -> tuple[list[nn.Parameter], DllmOptimizer]:
        generator = torch.Generator().manual_seed(9)
        parameters = [
            nn.Parameter(torch.randn(s, generator=generator)) for s in ((6, 4), (4, 4), (5,))
        ]
        optimizer = DllmOptimizer(
            parameters[:2], parameters[2:], matrix_lr=0.1, other_lr=0.1, weight_decay=0.1
        )
        return parameters, optimizer

    def step(parameters: list[nn.Parameter], optimizer: DllmOptimizer) -> None:
        sum(parameter.pow(3).sum() for parameter in parameters).backward()
        optimizer.step(0.5)

    parameters, optimizer = fresh()
    step(parameters, optimizer)
    restored, continued = fresh()
    for parameter, saved in zip(restored, parameters, strict=True):
        parameter.data.copy_(saved.data)
    continued.load_state_dict(deepcopy(optimizer.state_dict()))
    step(parameters, optimizer)
    step(restored, continued)
    for expected, found in zip(parameters, restored, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_run_learns_saves_and_decodes(learned: Path):
    losses = [event["loss"] for event in events(learned, "step")]
    assert losses[-1] < 0.15 < 1.0 < losses[0]
    fields = events(learned, "evaluation")[-1]["fields"]
    assert fields["visit/wish"] == 1.0
    assert fields["mood/mood"] == 1.0
    start = events(learned, "start")[0]
    assert (start["config"]["seed"], len(start["data_sha256"])) == (0, 64)

    held_out = HELD_OUT[:12]
    model = load_model(learned / "out", dtype=torch.float32)
    reloaded = DiffusionTokenizer.load(learned / "out", model.config)
    assert model.config.prompt_isolated
    scaffold = compile_branches(reloaded, BRANCHES)[0]
    calls = [encode_call(e, reloaded, (scaffold,), max_prompt_tokens=500) for e in held_out]
    prompts = [call.prompt.tolist() for call in calls if call is not None]
    decoded = decode_canvases(model, reloaded, prompts, scaffold)
    wishes = [scaffold.decode_value(canvas.tokens)["wish"] for canvas in decoded]
    assert wishes == [example["records"]["visit"]["wish"] for example in held_out]


def test_dropout_acts_while_training_and_never_after(tokenizer: DiffusionTokenizer):
    config, _ = small_model(tokenizer)
    model = fresh_model(config, seed=1, device=CPU)
    for block in model.blocks:  # a new model adds nothing yet: what comes out of its halves is zero
        torch.nn.init.normal_(block.ff_out.weight, std=0.1)
    tokens, positions = torch.arange(12) + 20, torch.arange(12)
    attend = lambda _layer, q, k, v: attend_all(q, k, v)  # noqa: E731
    plain = model.eval().trunk(tokens, positions, attend)
    for block in model.blocks:
        block.residual_dropout = 0.5
    torch.testing.assert_close(model.trunk(tokens, positions, attend), plain, rtol=0, atol=0)
    dropped = [model.train().trunk(tokens, positions, attend) for _ in range(2)]
    assert not torch.allclose(dropped[0], dropped[1], atol=1e-3)


def test_a_killed_run_ends_like_one_that_was_not(tmp_path: Path, tokenizer: DiffusionTokenizer):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    # The plateau lasts to the end, so that the rate does not depend on where the first part was meant to stop.
    shared = {"decay_share": 0.0, "seed": 3}
    train_dllm(settings(whole, **shared), examples, BRANCHES, fresh=small_model(tokenizer))
    for steps in (4, 6):
        config = settings(parts, max_steps=steps, **shared)
        train_dllm(config, examples, BRANCHES, fresh=small_model(tokenizer))
    assert [event["step"] for event in events(parts, "resume")] == [4]
    name = "model-00001-of-00001.safetensors"
    expected, found = load_file(whole / "out" / name), load_file(parts / "out" / name)
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor), key


def test_a_state_of_another_run_is_refused(tmp_path: Path, tokenizer: DiffusionTokenizer):
    train_dllm(settings(tmp_path, max_steps=1), examples, BRANCHES, fresh=small_model(tokenizer))
    for changes in ({"seed": 5}, {"mask_draws": 1}):
        with pytest.raises(TrainingError, match="other settings"):
            train_dllm(
                settings(tmp_path, **changes), examples, BRANCHES, fresh=small_model(tokenizer)
            )


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_worker_processes_give_every_shard_in_turn(tmp_path: Path, tokenizer: DiffusionTokenizer):
    config = settings(tmp_path, num_workers=2, max_steps=3, rows=1)
    progress = train_dllm(config, examples, BRANCHES, fresh=small_model(tokenizer))
    assert progress.position.batches == 3
    assert progress.position.examples_drawn[0] > progress.position.examples_drawn[1] > 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_steps": None}, "max_seconds"),
        ({"row_length": 500}, "128"),
        ({"decay_share": 2.0}, "decay"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_impossible_settings_are_named(tmp_path: Path, changes: dict[str, Any], said: str):
    with pytest.raises(TrainingError, match=said):
        settings(tmp_path, **changes).check()
