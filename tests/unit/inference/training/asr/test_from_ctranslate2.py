"""Weights read back from a converted model are those that were converted, to the last bit that int8 keeps."""

import pytest
import torch

from inference.training.asr.convert import convert
from inference.training.asr.export import load_weights, save_checkpoint
from inference.training.asr.from_ctranslate2 import read_arrays
from inference.training.asr.model import Whisper, WhisperShape
from inference.training.asr.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("asr")
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["Hello there.", "It's $120 at 3:30 pm."])
    shape = WhisperShape(
        vocabulary=tokenizer.get_vocab_size(),
        width=64,
        heads=1,
        encoder_layers=2,
        decoder_layers=2,
        feed_forward=256,
    )
    model = Whisper(shape)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_checkpoint(model, tokenizer, directory / "trained")
    return model, directory / "trained", convert(directory / "trained", directory / "ct2")


def test_every_weight_comes_back(converted):
    model, _, directory = converted
    kept = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name != "encoder.embed_positions.weight"
    }
    loaded = load_weights(directory)
    assert set(loaded) == set(kept)
    for name, tensor in kept.items():
        rows = tensor.flatten(1) if tensor.dim() > 1 else tensor[None]
        step = rows.abs().amax(-1) / 127  # int8 rows, after bf16
        error = (loaded[name].reshape(rows.shape) - rows).abs().amax(-1)
        assert (error <= 1.2 * step + 1e-6).all(), name


def test_what_training_wrote_loads_as_well(converted):
    model, directory, _ = converted
    loaded = load_weights(directory)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded[name], tensor, rtol=1e-2, atol=1e-2)


def test_another_binary_version_is_refused(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"\x05\x00\x00\x00")
    with pytest.raises(ValueError, match="binary version 5"):
        read_arrays(path)
