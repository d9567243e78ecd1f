"""Tokenizers trained on the spot, as checkpoints have them and with tokens across every boundary; canvases of them."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from inference.diffusion.structured.scaffold import compile_scaffold
from tests.unit.inference.diffusion.structured.canvases import Canvases

ROOT = Path(__file__).parents[5]

CORPUS = [
    "The caller wants to book an appointment for a haircut on Tuesday at 3 pm and asks about the price. "
    * 8,
    "Größe, Ärger, déjà vu, ключ, 日本語のテキスト, 🙂🙂, naïve café, ÿé àÿ. " * 8,
    '{"outcome":"booked","outcome_turn":12,"tags":["red","green"],"price":null,"ok":true} ' * 8,
    "2026-11-22T10:15:00Z 1999-02-28 23:59:59+01:00 99.95 -0.25 100000 007 4711 +491701234567 " * 8,
    "anna.smith@example.com v1.2.3-beta ABC-1234 3f2a9c1e-77aa-4bd0-9e01-aabbccddeeff \\ \" ' / "
    * 8,
]


@dataclass(eq=False)
class ByteLevelTokenizer:
    """A byte-level BPE; PAD is id 0 and the mask id 1."""

    tokenizer: Tokenizer
    pad_token_id: int = 0
    mask_token_id: int = 1
    token_bytes: list[bytes] = field(init=False)

    def __post_init__(self):
        bytes_of = {character: byte for byte, character in _byte_characters().items()}
        self.token_bytes = [
            b"" if token < 3 else bytes(bytes_of[c] for c in self.tokenizer.id_to_token(token))
            for token in range(self.tokenizer.get_vocab_size())
        ]

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids


def _byte_characters():
    """GPT-2's printable stand-in for every byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}


def train(size, *, use_regex):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<pad>", "<mask>", "<turn>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return ByteLevelTokenizer(tokenizer)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tokenizer():
    return train(640, use_regex=True)


@pytest.fixture(scope="session")
def crossing_tokenizer():
    """Its tokens span words, quotes and digits, and split characters."""
    return train(700, use_regex=False)


@pytest.fixture(scope="session")
def schemas():
    return json.loads((ROOT / "benchmarks" / "structured_schemas.json").read_text("utf-8"))


@pytest.fixture
def canvases(tokenizer):
    def build(*schemas, num_turns=5, store=None):
        compiled = [
            compile_scaffold(
                schema, tokenizer, instructions="Do.", name=f"{i}", num_turns=num_turns
            )
            for i, schema in enumerate(schemas)
        ]
        return Canvases(compiled, store)

    return build
