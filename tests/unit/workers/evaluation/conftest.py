"""A small untrained checkpoint, written once per session."""

from pathlib import Path

import pytest
import torch

from inference.diffusion.checkpoint import save_model
from inference.diffusion.tokenizer import train_tokenizer
from inference.training.dllm.start import embedded_config, fresh_model
from workers.evaluation.text_sets import TEXT_SETS


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    torch.set_num_threads(1)
    texts = [text for call in TEXT_SETS[0].calls(3) for _, text in call.turns]
    tokenizer = train_tokenizer(texts, vocab_size=400)
    config = embedded_config(tokenizer, d_model=16, n_layers=1, n_heads=2, mlp_hidden_size=16)
    model = fresh_model(config, seed=1, device=torch.device("cpu"))
    save_model(directory, config, model.state_dict())
    tokenizer.save(directory, max_length=config.max_sequence_length)
    return directory
