"""Models in the formats of production, small enough to make in a test. What they say means nothing, but it is valid."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import torch

from inference.diffusion.checkpoint import save_model
from inference.diffusion.config import LladaConfig
from inference.diffusion.model import LladaModel
from inference.diffusion.tokenizer import train_tokenizer
from inference.training.dllm.start import embedded_config, fresh_model

_TEXTS = (
    "Thanks for calling Riverside Dental, how can I help you today?",
    "1 agent: 2 caller: I would like to book a cleaning for Tuesday, please.",
    "booked positive neutral committed unknown not_applicable",
)

DECODER_SHAPES = {
    "mha_untied": {"n_heads": 4, "n_kv_heads": 4, "weight_tying": False},
    "gqa_tied": {"n_heads": 6, "n_kv_heads": 2, "weight_tying": True},
    "mqa_untied": {"n_heads": 3, "n_kv_heads": 1, "weight_tying": False},
}


def random_decoder(shape: str) -> LladaModel:
    """Three narrow layers of one of DECODER_SHAPES, in float32, with norms that do something."""
    config = LladaConfig.from_dict(
        {
            "d_model": 8 * DECODER_SHAPES[shape]["n_heads"],
            "n_layers": 3,
            "mlp_hidden_size": 52,
            "vocab_size": 61,
            "embedding_size": 64,
            "max_sequence_length": 128,
            "rope_theta": 5e5,
            "mask_token_id": 60,
            "eos_token_id": 59,
            **DECODER_SHAPES[shape],
        }
    )
    return random_weights(config, seed=5)


def random_weights(config: LladaConfig, *, seed: int) -> LladaModel:
    """A model in float32 whose activations stay at scale, and whose norms do something."""
    generator = torch.Generator().manual_seed(seed)
    model = LladaModel(config)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator) / math.sqrt(parameter.shape[-1])
        parameter.data = noise if parameter.dim() == 2 else 1.0 + 0.3 * noise
    return model.eval()


def save_tiny_dllm(directory: Path) -> None:
    """A random masked-diffusion checkpoint of two narrow layers."""
    tokenizer = train_tokenizer(_TEXTS * 3, vocab_size=400)
    config = embedded_config(tokenizer, d_model=32, n_layers=2, n_heads=2, mlp_hidden_size=48)
    model = fresh_model(config, seed=1, device=torch.device("cpu"))
    save_model(directory, config, model.state_dict())
    tokenizer.save(directory, max_length=config.max_sequence_length)


def save_parrot(directory: Path, sentence: str) -> None:
    """A Whisper in CTranslate2's format that hears `sentence` in every stretch of speech.

    Its layers add nothing, and the embedding of each position is that of the token to be said there.
    """
    from inference.training.asr.convert import convert
    from inference.training.asr.export import save_checkpoint
    from inference.training.asr.model import Whisper, WhisperShape
    from inference.training.asr.tokenizer import SpecialIds
    from inference.training.asr.tokenizer import train_tokenizer as train_asr_tokenizer

    torch.manual_seed(0)
    tokenizer = train_asr_tokenizer([sentence] * 3, vocabulary=400)
    ids = SpecialIds.of(tokenizer)
    model = Whisper(
        WhisperShape(
            vocabulary=ids.size,
            width=128,
            heads=2,
            encoder_layers=1,
            decoder_layers=1,
            feed_forward=32,
        )
    )
    said = [*tokenizer.encode(" " + sentence, add_special_tokens=False).ids, ids.end]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("out_proj.weight", "fc2.weight")):
                parameter.zero_()
        tokens, places = model.decoder.embed_tokens.weight, model.decoder.embed_positions.weight
        torch.nn.init.normal_(tokens)
        # the prompt of a model for one language takes two places: start, and no timestamps
        for place in range(len(places)):
            places[place] = 20 * tokens[said[min(max(place - 1, 0), len(said) - 1)]]
    with tempfile.TemporaryDirectory() as work:
        save_checkpoint(model, tokenizer, Path(work))
        convert(Path(work), directory)
