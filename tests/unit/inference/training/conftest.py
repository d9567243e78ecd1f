"""A tokenizer and scaffolds of the tiny run, and a model that learnt it."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
import torch

from inference.diffusion.structured.scaffold import Scaffold
from inference.diffusion.tokenizer import DiffusionTokenizer, train_tokenizer
from inference.training.dllm import (
    train_dllm,
)
from inference.training.dllm.canvas import compile_branches
from tests.unit.inference.training.tiny_run import (
    BRANCHES,
    HELD_OUT,
    examples,
    settings,
    small_model,
)


@pytest.fixture(scope="session")
def tokenizer() -> DiffusionTokenizer:
    texts = [json.dumps(example) for example in islice(examples(0, 1), 60)]
    return train_tokenizer(texts, vocab_size=420)


@pytest.fixture(scope="session")
def scaffolds(tokenizer: DiffusionTokenizer) -> tuple[Scaffold, ...]:
    return compile_branches(tokenizer, BRANCHES)


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory, tokenizer: DiffusionTokenizer) -> Path:
    """The directory of a run that learnt the two records."""
    torch.set_num_threads(1)  # two threads on busy processors wait for each other all the time
    directory = tmp_path_factory.mktemp("learned")
    config = settings(directory, max_steps=220, rows=1, row_length=1024, log_every_steps=20)
    train_dllm(
        config, examples, BRANCHES, fresh=small_model(tokenizer), evaluation={"new": HELD_OUT[:12]}
    )
    return directory
