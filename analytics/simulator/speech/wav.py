"""WAV files as telephone systems write them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Literal

import numpy as np

from analytics.simulator.speech.line import mu_law_bytes
from analytics.simulator.speech.synthesis import TELEPHONE_RATE

Encoding = Literal["mu_law", "pcm16"]
_FORMAT_TAG = {"mu_law": 7, "pcm16": 1}
_SAMPLE_BYTES = {"mu_law": 1, "pcm16": 2}


def write_wav(path: Path, audio: np.ndarray, encoding: Encoding = "mu_law") -> None:
    """Write float [channels, n] at 8 kHz, channels interleaved."""
    interleaved = audio.T.reshape(-1)
    if encoding == "mu_law":
        data = mu_law_bytes(interleaved).tobytes()
    else:
        data = np.clip(np.round(interleaved * 32_767), -32_768, 32_767).astype("<i2").tobytes()
    channels, width = audio.shape[0], _SAMPLE_BYTES[encoding]
    header = struct.pack(
        "<HHIIHHH",
        _FORMAT_TAG[encoding],
        channels,
        TELEPHONE_RATE,
        TELEPHONE_RATE * channels * width,
        channels * width,
        8 * width,
        0,
    )
    chunks = b"WAVEfmt " + struct.pack("<I", len(header)) + header
    chunks += b"data" + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
