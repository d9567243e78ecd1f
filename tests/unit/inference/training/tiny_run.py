"""A masked-diffusion training small enough for a test: two records of short made-up calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch

from inference.diffusion.request import BranchSpec
from inference.diffusion.tokenizer import DiffusionTokenizer
from inference.training.dllm import (
    TrainConfig,
    embedded_config,
)

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


def small_model(tokenizer: DiffusionTokenizer):
    return embedded_config(
        tokenizer, d_model=48, n_layers=2, n_heads=3, mlp_hidden_size=96
    ), tokenizer


def events(tmp_path: Path, kind: str) -> list[dict[str, Any]]:
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


HELD_OUT = list(islice(examples(99, 100), 48))
