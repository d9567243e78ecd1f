"""Weights out of a CTranslate2 Whisper directory, so that training can go on from what is shipped.

`model.bin` (binary version 6) is a list of named arrays: name, rank, sizes, type, bytes, data, all little endian, with
names as length-prefixed strings that end in a zero byte. int8 matrices come with a scale for each row.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

_BINARY_VERSION: Final = 6
_TYPES: Final = (np.float32, np.int8, np.int16, np.int32, np.float16)
_MODULES: Final = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "attention/layer_norm": "encoder_attn_layer_norm",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}


@dataclass(slots=True)
class _Reader:
    data: bytes
    at: int = 0

    def number(self, kind: str) -> int:
        (value,) = struct.unpack_from(f"<{kind}", self.data, self.at)
        self.at += struct.calcsize(kind)
        return int(value)

    def name(self) -> str:
        length = self.number("H")
        self.at += length
        return self.data[self.at - length : self.at - 1].decode()

    def array(self) -> np.ndarray:
        sizes = [self.number("I") for _ in range(self.number("B"))]
        dtype, num_bytes = _TYPES[self.number("B")], self.number("I")
        self.at += num_bytes
        return np.frombuffer(self.data[self.at - num_bytes : self.at], dtype).reshape(sizes)


def read_arrays(path: Path) -> dict[str, Tensor]:
    """All arrays of a `model.bin` by name, int8 rows as float32. Raises ValueError for another binary version."""
    reader = _Reader(path.read_bytes())
    version = reader.number("I")
    if version != _BINARY_VERSION:
        raise ValueError(f"{path} has binary version {version}, this reads {_BINARY_VERSION}")
    reader.name(), reader.number("I")
    arrays = {}
    for _ in range(reader.number("I")):
        name = reader.name()
        arrays[name] = reader.array()
    weights = {}
    for name, array in arrays.items():
        if array.ndim and array.dtype in (np.float32, np.float16, np.int8):
            scale = arrays.get(f"{name}_scale")
            values = array.astype(np.float32)
            if scale is not None:
                values /= scale.reshape(-1, *[1] * (array.ndim - 1))
            weights[name] = torch.from_numpy(values)
    return weights


def load_ctranslate2(directory: Path) -> dict[str, Tensor]:
    """The weights of a CTranslate2 Whisper directory under the training module's names, but for the fixed positions."""
    weights: dict[str, Tensor] = {}
    for name, tensor in read_arrays(directory / "model.bin").items():
        if not name.endswith("_scale"):
            weights |= _renamed(name, tensor)
    return weights


def _renamed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    stack, _, rest = name.partition("/")
    if rest == "embeddings/weight":
        return {"decoder.embed_tokens.weight": tensor}
    if rest == "position_encodings/encodings":
        return {"decoder.embed_positions.weight": tensor} if stack == "decoder" else {}
    module, _, kind = rest.rpartition("/")
    kind = {"gamma": "weight", "beta": "bias"}.get(kind, kind)
    if not module.startswith("layer_") or module == "layer_norm":
        return {f"{stack}.{module}.{kind}": tensor}
    layer, _, part = module.partition("/")
    prefix = f"{stack}.layers.{layer.removeprefix('layer_')}"
    if part in _MODULES:
        return {f"{prefix}.{_MODULES[part]}.{kind}": tensor}
    attention, _, linear = part.partition("/")
    prefix += ".self_attn" if attention == "self_attention" else ".encoder_attn"
    # Queries, keys and values are one matrix in self-attention; keys and values in attention to the audio.
    joined = {
        ("self_attention", "linear_0"): ("q_proj", "k_proj", "v_proj"),
        ("self_attention", "linear_1"): ("out_proj",),
        ("attention", "linear_0"): ("q_proj",),
        ("attention", "linear_1"): ("k_proj", "v_proj"),
        ("attention", "linear_2"): ("out_proj",),
    }[attention, linear]
    return {
        f"{prefix}.{projection}.{kind}": part.clone()
        for projection, part in zip(joined, tensor.chunk(len(joined)), strict=True)
        if not (projection == "k_proj" and kind == "bias")
    }
