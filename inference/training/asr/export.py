"""Weights to files and back: safetensors shards small enough to carry, and a Hugging Face Whisper directory."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from inference.training.asr.from_ctranslate2 import load_ctranslate2
from inference.training.asr.model import Whisper, WhisperShape
from inference.training.asr.tokenizer import SpecialIds, save_tokenizer

SHARD_BYTES = 15 * 1024 * 1024


def save_shards(
    tensors: dict[str, Tensor], directory: Path, shard_bytes: int = SHARD_BYTES
) -> list[Path]:
    """Write tensors as bf16 `model-0000k-of-0000n.safetensors` and return their paths."""
    small = {
        name: tensor.detach().to("cpu", torch.bfloat16).contiguous()
        for name, tensor in tensors.items()
    }
    shards: list[dict[str, Tensor]] = [{}]
    used = 0
    for name, tensor in small.items():
        size = tensor.numel() * 2
        if used + size > shard_bytes and shards[-1]:
            shards.append({})
            used = 0
        shards[-1][name] = tensor
        used += size
    paths = []
    for number, shard in enumerate(shards, 1):
        paths.append(directory / f"model-{number:05d}-of-{len(shards):05d}.safetensors")
        save_file(shard, paths[-1], metadata={"format": "pt"})
    return paths


def load_shards(directory: Path) -> dict[str, Tensor]:
    """All tensors of a directory written by `save_shards`. Raises FileNotFoundError when a shard is missing."""
    tensors: dict[str, Tensor] = {}
    first = next(iter(sorted(directory.glob("model-00001-of-*.safetensors"))), None)
    if first is None:
        raise FileNotFoundError(f"no weights in {directory}")
    count = int(first.stem.rpartition("-")[2])
    for number in range(1, count + 1):
        tensors |= load_file(directory / f"model-{number:05d}-of-{count:05d}.safetensors")
    return tensors


def load_weights(directory: Path) -> dict[str, Tensor]:
    """The training module's weights from a directory that training wrote, or from one converted to CTranslate2.

    Raises FileNotFoundError when it is neither.
    """
    if (directory / "model.bin").exists():
        return load_ctranslate2(directory)
    return {
        name.removeprefix("model."): tensor.float()
        for name, tensor in load_shards(directory).items()
    }


def whisper_config(shape: WhisperShape, ids: SpecialIds) -> dict[str, object]:
    """The `config.json` of transformers' Whisper for this shape."""
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "vocab_size": shape.vocabulary,
        "num_mel_bins": shape.mels,
        "d_model": shape.width,
        "encoder_layers": shape.encoder_layers,
        "decoder_layers": shape.decoder_layers,
        "encoder_attention_heads": shape.heads,
        "decoder_attention_heads": shape.heads,
        "encoder_ffn_dim": shape.feed_forward,
        "decoder_ffn_dim": shape.feed_forward,
        "max_source_positions": shape.max_source_positions,
        "max_target_positions": shape.max_target_positions,
        "activation_function": "gelu",
        "scale_embedding": False,
        "tie_word_embeddings": True,
        "pad_token_id": ids.end,
        "bos_token_id": ids.end,
        "eos_token_id": ids.end,
        "decoder_start_token_id": ids.start,
        "suppress_tokens": None,
        "begin_suppress_tokens": None,
        "dtype": "float32",
    }


def shape_of(config: dict[str, int]) -> WhisperShape:
    """The shape that a `config.json` describes."""
    return WhisperShape(
        vocabulary=config["vocab_size"],
        width=config["d_model"],
        heads=config["encoder_attention_heads"],
        encoder_layers=config["encoder_layers"],
        decoder_layers=config["decoder_layers"],
        feed_forward=config["encoder_ffn_dim"],
        mels=config["num_mel_bins"],
        max_source_positions=config["max_source_positions"],
        max_target_positions=config["max_target_positions"],
    )


def save_checkpoint(model: Whisper, tokenizer: Tokenizer, directory: Path) -> None:
    """Write the model as a Hugging Face directory: weights in bf16 shards, config, generation config, tokenizer."""
    directory.mkdir(parents=True, exist_ok=True)
    ids = SpecialIds.of(tokenizer)
    save_shards(model.state_dict_for_export(), directory)
    config = whisper_config(model.shape, ids)
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)


def assemble_checkpoint(source: Path, directory: Path) -> None:
    """From what training wrote, a full Hugging Face directory: one float32 weights file, configs, tokenizer, features.

    Raises FileNotFoundError when `source` lacks weights, config or tokenizer.
    """
    weights = {name: tensor.float() for name, tensor in load_shards(source).items()}
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text((source / "config.json").read_text())
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    ids = SpecialIds.of(tokenizer)
    save_tokenizer(tokenizer, directory)
    blank = tokenizer.encode(" ", add_special_tokens=False).ids[0]
    generation = {
        "bos_token_id": ids.end,
        "eos_token_id": ids.end,
        "pad_token_id": ids.end,
        "decoder_start_token_id": ids.start,
        "max_length": 448,
        "suppress_tokens": [],
        "begin_suppress_tokens": [blank, ids.end],
    }
    (directory / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    features = {
        "chunk_length": 30,
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": 80,
        "hop_length": 160,
        "n_fft": 400,
        "n_samples": 480_000,
        "nb_max_frames": 3_000,
        "sampling_rate": 16_000,
    }
    (directory / "preprocessor_config.json").write_text(json.dumps(features, indent=2) + "\n")
