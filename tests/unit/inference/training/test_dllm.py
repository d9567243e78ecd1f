"""Masked-diffusion training: packing, masking, attention, optimiser, adapters, and a run that is killed and resumed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig as PeftConfig
from peft import get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn

from inference.diffusion.checkpoint import load_model, save_model
from inference.diffusion.model import LladaModel
from inference.diffusion.reference import decode_canvases
from inference.diffusion.request import BranchSpec
from inference.diffusion.structured.scaffold import Scaffold
from inference.diffusion.tokenizer import DiffusionTokenizer, train_tokenizer
from inference.training.dllm import (
    ExampleError,
    LoraConfig,
    TrainConfig,
    TrainingError,
    embedded_config,
    jsonl_examples,
    merge_adapter,
    train_dllm,
)
from inference.training.dllm.attention import PackedAttention
from inference.training.dllm.canvas import compile_branches, encode_call
from inference.training.dllm.data import PADDING_CALL, Batch, PackedBatches, StreamPosition
from inference.training.dllm.evaluate import encode_calls, field_accuracy
from inference.training.dllm.lora import add_lora, lora_layers, merge_checkpoint, save_adapter
from inference.training.dllm.optimizer import DllmOptimizer, orthogonalise
from inference.training.dllm.start import fresh_model, trained_parameters

CPU = torch.device("cpu")
NAMES = ("Ann Lee", "Bob Ray", "Cleo Fox", "Dan Orr", "Eve Kim")
BRANCHES = (
    BranchSpec(
        "visit",
        "Name and wish.",
        {
            "type": "object",
            "properties": {
                "name": {"type": "string", "maxLength": 16},
                "wish": {"enum": ["book", "cancel"]},
            },
            "required": ["name", "wish"],
            "additionalProperties": False,
        },
    ),
    BranchSpec(
        "mood",
        "The mood.",
        {
            "type": "object",
            "properties": {"mood": {"enum": ["good", "bad"]}},
            "required": ["mood"],
            "additionalProperties": False,
        },
    ),
)


def examples(shard: int, num_shards: int) -> Iterator[dict[str, Any]]:
    random = Random(shard)
    index = 0
    while True:
        name, wish = random.choice(NAMES), random.choice(["book", "cancel"])
        mood = random.choice(["good", "bad"])
        yield {
            "id": f"{shard}-{index}",
            "turns": [
                {"role": "agent", "text": "Hello"},
                {"role": "caller", "text": f"I am {name}, I {wish}. I feel {mood}"},
                *({"role": "agent", "text": "Fine"} for _ in range(index % 3)),
            ],
            "records": {"visit": {"name": name, "wish": wish}, "mood": {"mood": mood}},
        }
        index += 1


@pytest.fixture(scope="module")
def tokenizer() -> DiffusionTokenizer:
    texts = [json.dumps(example) for example in islice(examples(0, 1), 60)]
    return train_tokenizer(texts, vocab_size=420)


@pytest.fixture(scope="module")
def scaffolds(tokenizer: DiffusionTokenizer) -> tuple[Scaffold, ...]:
    return compile_branches(tokenizer, BRANCHES)


def settings(tmp_path: Path, **changes: Any) -> TrainConfig:
    config = TrainConfig(
        out_dir=tmp_path / "out",
        state_dir=tmp_path / "state",
        max_steps=6,
        rows=2,
        row_length=512,
        num_workers=0,
        warmup_steps=2,
        log_every_steps=2,
        device="cpu",
    )
    return replace(config, **changes)


def batches(
    config: TrainConfig,
    tokenizer: DiffusionTokenizer,
    scaffolds: tuple[Scaffold, ...],
    start: StreamPosition | None = None,
) -> PackedBatches:
    return PackedBatches(config, examples, tokenizer, scaffolds, start or StreamPosition.start(1))


def test_only_slots_are_masked_and_everything_else_is_the_truth(
    tmp_path: Path, tokenizer: DiffusionTokenizer, scaffolds: tuple[Scaffold, ...]
):
    config = settings(tmp_path, mask_draws=3)
    batch = next(iter(batches(config, tokenizer, scaffolds)))
    expected = [
        encode_call(example, tokenizer, scaffolds, max_prompt_tokens=1536)
        for example in islice(examples(0, 1), batch.num_calls)
    ]
    masked = batch.token_ids == tokenizer.mask_token_id
    restored = batch.token_ids.flatten().clone()
    restored[batch.loss_rows] = batch.loss_targets.int()
    restored = restored.view_as(batch.token_ids)
    assert masked.sum() == len(batch.loss_rows)
    assert batch.loss_rows.unique().numel() == len(batch.loss_rows)
    for index, call in enumerate(expected):
        assert call is not None
        here = batch.call_ids == index
        prompt = here & (batch.canvas_ids == 0)
        assert restored[prompt].tolist() == call.prompt.tolist()
        assert batch.positions[prompt].tolist() == list(range(len(call.prompt)))
        for canvas_id in range(1, 7):
            canvas = here & (batch.canvas_ids == canvas_id)
            branch = (canvas_id - 1) // config.mask_draws
            assert restored[canvas].tolist() == call.canvases[branch].tolist()
            first = len(call.prompt)
            assert batch.positions[canvas].tolist() == list(
                range(first, first + len(call.canvases[branch]))
            )
            slots = scaffolds[branch].slot_positions()
            hidden = masked[canvas].nonzero().flatten().tolist()
            assert hidden
            assert set(hidden) <= set(slots)
    assert not masked[batch.call_ids == PADDING_CALL].any()


def test_every_slot_position_weighs_the_same_on_average(
    tmp_path: Path, tokenizer: DiffusionTokenizer, scaffolds: tuple[Scaffold, ...]
):
    weights = np.zeros(len(scaffolds))
    stream = iter(batches(settings(tmp_path), tokenizer, scaffolds))
    for batch in islice(stream, 40):
        assert float(batch.loss_weights.sum()) == pytest.approx(1.0, abs=1e-4)
        np.add.at(weights, batch.loss_branches.numpy(), batch.loss_weights.numpy())
    slots = np.array([len(scaffold.slot_positions()) for scaffold in scaffolds])
    assert weights / weights.sum() == pytest.approx(slots / slots.sum(), abs=1e-4)


def test_the_number_of_masked_positions_is_uniform(
    tmp_path: Path, tokenizer: DiffusionTokenizer, scaffolds: tuple[Scaffold, ...]
):
    num_slots = len(scaffolds[0].slot_positions())
    counts: list[int] = []
    for batch in islice(iter(batches(settings(tmp_path), tokenizer, scaffolds)), 60):
        masked = batch.token_ids == tokenizer.mask_token_id
        for call in range(batch.num_calls):
            here = masked & (batch.call_ids == call)
            counts += [int((here & (batch.canvas_ids == canvas)).sum()) for canvas in (1, 2)]
    shares = np.bincount(counts, minlength=num_slots + 1)[1:] / len(counts)
    assert shares == pytest.approx(np.full(num_slots, 1 / num_slots), abs=0.06)


def test_the_stream_goes_on_from_any_position(
    tmp_path: Path, tokenizer: DiffusionTokenizer, scaffolds: tuple[Scaffold, ...]
):
    config = settings(tmp_path)
    whole = list(islice(iter(batches(config, tokenizer, scaffolds)), 5))
    position = StreamPosition.start(1).after(whole[0]).after(whole[1])
    rest = list(islice(iter(batches(config, tokenizer, scaffolds, position)), 3))
    for expected, found in zip(whole[2:], rest, strict=True):
        for name in Batch._fields:
            left, right = getattr(expected, name), getattr(found, name)
            assert torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right, (
                name
            )


def test_a_call_longer_than_a_row_stops_the_run(
    tmp_path: Path, tokenizer: DiffusionTokenizer, scaffolds: tuple[Scaffold, ...]
):
    config = settings(tmp_path, row_length=128, mask_draws=8)
    with pytest.raises(TrainingError, match="row_length=128"):
        next(iter(batches(config, tokenizer, scaffolds)))


def test_calls_that_do_not_fit_their_slots_are_left_out_and_counted(
    tmp_path: Path, tokenizer: DiffusionTokenizer, scaffolds: tuple[Scaffold, ...]
):
    def stream(shard: int, num_shards: int) -> Iterator[dict[str, Any]]:
        for index, example in enumerate(islice(examples(shard, num_shards), 6)):
            if index % 2:
                example["records"]["visit"]["name"] = "Xyzzyqvwkj"
            yield example

    dataset = PackedBatches(
        settings(tmp_path), stream, tokenizer, scaffolds, StreamPosition.start(1)
    )
    (batch,) = dataset
    assert (batch.num_calls, batch.num_skipped, batch.examples_drawn) == (3, 3, 6)


@pytest.mark.parametrize("missing", ["turns", "records"])
def test_broken_examples_are_named(
    tokenizer: DiffusionTokenizer, scaffolds: tuple[Scaffold, ...], missing: str
):
    example = next(examples(0, 1))
    del example[missing]
    with pytest.raises(ExampleError, match="example 0-0"):
        encode_call(example, tokenizer, scaffolds, max_prompt_tokens=500)


def test_packed_attention_sees_what_each_call_alone_sees(
    tmp_path: Path, tokenizer: DiffusionTokenizer, scaffolds: tuple[Scaffold, ...]
):
    """Hidden states of a packed batch are those of each canvas alone behind its prompt, and of each prompt alone."""
    config = settings(tmp_path)
    batch = next(iter(batches(config, tokenizer, scaffolds)))
    model_config = embedded_config(tokenizer, d_model=32, n_layers=2, n_heads=2, mlp_hidden_size=48)
    model = fresh_model(model_config, seed=1, device=CPU)
    for block in model.blocks:
        nn.init.normal_(block.attn_out.weight, std=0.3)
        nn.init.normal_(block.ff_out.weight, std=0.3)
    attention = PackedAttention(2, 512, CPU, "dense")
    attention.load(batch)
    with torch.inference_mode():
        hidden = model.trunk(batch.token_ids, batch.positions, attention)
        for call, canvas_id in ((0, 0), (0, 2), (batch.num_calls - 1, 4)):
            own = (batch.call_ids == call) & (
                (batch.canvas_ids == 0) | (batch.canvas_ids == canvas_id)
            )
            ids, positions = batch.token_ids[own][None], batch.positions[own][None]
            canvas = batch.canvas_ids[own]
            sees = (canvas[None, :] == 0) | (canvas[:, None] == canvas[None, :])

            def attend(_layer, q, k, v, sees=sees):
                q, k, v = (part.transpose(1, 2) for part in (q, k, v))
                out = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=sees)
                return out.transpose(1, 2)

            alone = model.trunk(ids, positions, attend)[0]
            torch.testing.assert_close(hidden[own], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_equals_the_written_out_mask(
    tmp_path: Path, tokenizer: DiffusionTokenizer, scaffolds: tuple[Scaffold, ...]
):
    dense = PackedAttention(2, 512, CPU, "dense")
    flex = PackedAttention(2, 512, CPU, "flex", compiled=False)
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 512, 4, 16, generator=generator)
    k, v = (torch.randn(2, 512, 2, 16, generator=generator) for _ in range(2))
    for batch in islice(iter(batches(settings(tmp_path), tokenizer, scaffolds)), 2):
        dense.load(batch)
        flex.load(batch)
        with torch.inference_mode():
            torch.testing.assert_close(flex(0, q, k, v), dense(0, q, k, v), rtol=1e-4, atol=1e-5)


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


def small_model(tokenizer: DiffusionTokenizer):
    return embedded_config(
        tokenizer, d_model=48, n_layers=2, n_heads=3, mlp_hidden_size=96
    ), tokenizer


def events(tmp_path: Path, kind: str) -> list[dict[str, Any]]:
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


HELD_OUT = list(islice(examples(99, 100), 48))


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory, tokenizer: DiffusionTokenizer) -> Path:
    """The directory of a run that learnt the two records."""
    torch.set_num_threads(1)  # two threads on busy processors wait for each other all the time
    directory = tmp_path_factory.mktemp("learned")
    config = settings(directory, max_steps=220, rows=1, row_length=1024, log_every_steps=20)
    train_dllm(
        config, examples, BRANCHES, fresh=small_model(tokenizer), evaluation={"new": HELD_OUT[:12]}
    )
    return directory


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


def test_jsonl_examples_go_round_and_are_split(tmp_path: Path):
    path = tmp_path / "calls.jsonl"
    path.write_text("".join(json.dumps({"id": i}) + "\n" for i in range(10)))
    shards = [[e["id"] for e in islice(jsonl_examples(path)(shard, 2), 10)] for shard in range(2)]
    assert sorted(shards[0][:5]) == [0, 2, 4, 6, 8]
    assert sorted(shards[1][5:]) == [1, 3, 5, 7, 9]
    assert shards[0][:5] != shards[0][5:]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_steps": None}, "max_seconds"),
        ({"row_length": 500}, "128"),
        ({"decay_share": 2.0}, "decay"),
    ],
)
def test_impossible_settings_are_named(tmp_path: Path, changes: dict[str, Any], said: str):
    with pytest.raises(TrainingError, match=said):
        settings(tmp_path, **changes).check()


def base_checkpoint(tmp_path: Path, tokenizer: DiffusionTokenizer) -> Path:
    model = fresh_model(small_model(tokenizer)[0], seed=2, device=CPU)
    save_model(tmp_path / "base", model.config, model.state_dict())
    tokenizer.save(tmp_path / "base", max_length=2048)
    return tmp_path / "base"


def test_lora_trains_adapters_only_and_merges(tmp_path: Path, tokenizer: DiffusionTokenizer):
    base = base_checkpoint(tmp_path, tokenizer)
    config = settings(tmp_path, max_steps=60, lora=LoraConfig(rank=4, alpha=8.0), other_lr=1e-2)
    train_dllm(config, examples, BRANCHES, from_checkpoint=base)
    losses = [event["loss"] for event in events(tmp_path, "step")]
    assert losses[-1] < losses[0] - 0.5
    assert {path.name for path in config.out_dir.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "metrics.jsonl",
    }
    model = load_model(base)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    merge_adapter(model, config.out_dir)
    changed = {
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert {name.split(".")[-2] for name in changed} == {"q_proj", "k_proj", "v_proj", "attn_out"}
    assert len(changed) == 8


def test_few_relabelled_calls_move_one_field_and_leave_the_others(
    tmp_path: Path, learned: Path, tokenizer: DiffusionTokenizer
):
    """A team says `book` for what the base calls `cancel` when the caller feels bad; names and moods stay."""

    def team_rule(example: dict[str, Any]) -> dict[str, Any]:
        records = deepcopy(example["records"])
        if records["mood"]["mood"] == "bad":
            records["visit"]["wish"] = "book"
        return {**example, "records": records}

    base = learned / "out"
    lines = [json.dumps(team_rule(example)) for example in islice(examples(0, 1), 40)]
    (tmp_path / "calls.jsonl").write_text("\n".join(lines))
    by_rule = [team_rule(example) for example in HELD_OUT]
    assert sum(a != b for a, b in zip(HELD_OUT, by_rule, strict=True)) >= 6
    tuned = settings(
        tmp_path, max_steps=300, rows=1, row_length=1024, lora=LoraConfig(rank=4), other_lr=1e-2
    )
    train_dllm(
        tuned,
        jsonl_examples(tmp_path / "calls.jsonl"),
        BRANCHES,
        from_checkpoint=base,
    )
    merge_checkpoint(base, tuned.out_dir, tmp_path / "merged")
    scaffolds = compile_branches(tokenizer, BRANCHES)
    calls = encode_calls(by_rule, tokenizer, scaffolds, max_prompt_tokens=500)
    before, fields = (
        field_accuracy(load_model(path, dtype=torch.float32), tokenizer, scaffolds, calls)
        for path in (base, tmp_path / "merged")
    )
    assert before["visit/wish"] <= 0.875, "the rule changes one label in eight at least"
    assert fields["visit/wish"] >= 0.95
    assert fields["visit/name"] >= 0.9
    assert fields["mood/mood"] >= 0.95


@pytest.mark.filterwarnings("ignore:The PEFT config's `base_model_name_or_path` was renamed")
def test_adapter_files_are_those_of_peft(tmp_path: Path, tokenizer: DiffusionTokenizer):
    base = base_checkpoint(tmp_path, tokenizer)
    lora = LoraConfig(rank=2, alpha=6.0, target_modules=("q_proj", "up_proj"))
    model = load_model(base)
    add_lora(model, lora)
    for layer in lora_layers(model).values():
        nn.init.normal_(layer.lora_b)
    save_adapter(tmp_path / "adapter", model, lora, base=str(base))
    merged = {name: layer.merged() for name, layer in lora_layers(model).items()}

    theirs = get_peft_model(
        load_model(base), PeftConfig.from_pretrained(tmp_path / "adapter", inference_mode=True)
    )
    result = set_peft_model_state_dict(
        theirs, load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    )
    assert not result.unexpected_keys
    unwrapped = theirs.merge_and_unload()
    assert isinstance(unwrapped, LladaModel)
    for name, weight in merged.items():
        torch.testing.assert_close(unwrapped.get_submodule(name).weight, weight)


def test_adapters_that_do_not_fit_are_refused(tmp_path: Path, tokenizer: DiffusionTokenizer):
    model = load_model(base_checkpoint(tmp_path, tokenizer))
    with pytest.raises(TrainingError, match="no_such"):
        add_lora(model, LoraConfig(target_modules=("no_such",)))
    adapted = load_model(tmp_path / "base")
    add_lora(adapted, LoraConfig(rank=2))
    save_adapter(tmp_path / "adapter", adapted, LoraConfig(rank=2), base="base")
    other = embedded_config(tokenizer, d_model=16, n_layers=2, n_heads=2, mlp_hidden_size=32)
    with pytest.raises(TrainingError, match="does not fit"):
        merge_adapter(fresh_model(other, seed=0, device=CPU), tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"use_dora": True}))
    with pytest.raises(TrainingError, match="use_dora"):
        merge_adapter(model, tmp_path / "adapter")
