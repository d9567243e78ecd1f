"""Adapters: trained, merged, in peft's format, and moving one field to a rule of a team's own."""

from __future__ import annotations

import json
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig as PeftConfig
from peft import get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn

from inference.diffusion.checkpoint import load_model, save_model
from inference.diffusion.model import LladaModel
from inference.diffusion.tokenizer import DiffusionTokenizer
from inference.training.dllm import (
    LoraConfig,
    TrainingError,
    embedded_config,
    jsonl_examples,
    merge_adapter,
    train_dllm,
)
from inference.training.dllm.canvas import compile_branches
from inference.training.dllm.evaluate import encode_calls, field_accuracy
from inference.training.dllm.lora import add_lora, lora_layers, merge_checkpoint, save_adapter
from inference.training.dllm.start import fresh_model
from tests.unit.inference.training.tiny_run import (
    BRANCHES,
    CPU,
    HELD_OUT,
    events,
    examples,
    settings,
    small_model,
)


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
    lines = [json.dumps(team_rule(example)) for example in islice(examples(0, 1), 200)]
    (tmp_path / "calls.jsonl").write_text("\n".join(lines))
    by_rule = [team_rule(example) for example in HELD_OUT]
    assert sum(a != b for a, b in zip(HELD_OUT, by_rule, strict=True)) >= 6
    tuned = settings(
        tmp_path, max_steps=200, rows=1, row_length=1024, lora=LoraConfig(rank=4), other_lr=5e-3
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
