"""What random records are made of: schemas, a small tokenizer, and batches; nothing that a GPU machine lacks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inference.diffusion.structured.scaffold import Scaffold, compile_scaffold
from inference.diffusion.structured.vocabulary import Tokenizer
from inference.diffusion.tokenizer import DiffusionTokenizer, train_tokenizer

SCHEMAS = Path(__file__).with_name("structured_schemas.json")
MAX_BATCH = 64
NUM_TURNS = 60  # of a usual call
CORPUS = [
    "The caller wants to book an appointment for a haircut on Tuesday at 3 pm and asks about the price.",
    "Größe, Ärger, déjà vu, ключ, 日本語のテキスト, 🙂🙂, naïve café, ÿé àÿ.",
    '{"outcome":"booked","outcome_turn":12,"tags":["red","green"],"price":null,"ok":true}',
    "2026-11-22T10:15:00Z 1999-02-28 23:59:59+01:00 99.95 -0.25 100000 007 4711 +491701234567",
    "anna.smith@example.com v1.2.3-beta ABC-1234 3f2a9c1e-77aa-4bd0-9e01-aabbccddeeff \\ \" ' /",
]


def load_tokenizer(directory: Path | None) -> DiffusionTokenizer:
    if directory is not None:
        return DiffusionTokenizer.read(directory)
    return train_tokenizer(CORPUS * 8, vocab_size=640)


def compile_all(schemas: dict[str, Any], tokenizer: Tokenizer) -> list[Scaffold]:
    return [
        compile_scaffold(schema, tokenizer, instructions="Read.", name=name, num_turns=NUM_TURNS)
        for name, schema in schemas.items()
    ]


def batches(scaffolds: list[Scaffold], num_records: int, seed: int) -> Iterator[list[Scaffold]]:
    """Random batches that go through all schemas in turn."""
    dice = random.Random(seed)
    pending: list[Scaffold] = []
    while num_records > 0:
        size = min(dice.choice([1, 2, 3, 7, 16, 33, MAX_BATCH]), num_records)
        while len(pending) < size:
            pending += dice.sample(scaffolds, len(scaffolds))
        yield pending[:size]
        del pending[:size]
        num_records -= size
