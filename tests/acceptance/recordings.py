"""Recordings for the service to work on: real speech, and what can be wrong with a file."""

from __future__ import annotations

import os
import struct
import wave
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from inference.speech import read_recording
from inference.speech.media import SAMPLE_RATE

# Both sides have their say at its beginning; speech recognition on a busy processor takes its time.
SPOKEN, SECONDS = "rental-viewing.mp3", 7


@cache
def speech() -> np.ndarray:
    """The beginning of a recording of the demo: int16 [samples, 2] at 16 kHz."""
    with as_file(files("workers").joinpath("demo", "recordings", SPOKEN)) as path:
        recording = read_recording(path, max_seconds=600)
    assert recording.verdict == "ok"
    audio = recording.audio[:, : SECONDS * SAMPLE_RATE]
    return np.ascontiguousarray((audio.T * 32_767).astype("<i2"))


def spoken(number: int) -> np.ndarray:
    """The same speech as a recording of its own: each number adds other silence at the end."""
    silence = np.zeros((number * 160, 2), dtype="<i2")
    return np.concatenate([speech(), silence])


def write_wav(path: Path, samples: np.ndarray, *, rate: int = SAMPLE_RATE) -> Path:
    """PCM WAV of int16 or uint8 samples [samples, channels]."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(samples.dtype.itemsize)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


def write_float_wav(path: Path, samples: np.ndarray, *, rate: int = SAMPLE_RATE) -> Path:
    """WAV of float32 samples [samples, channels], which may hold what is no number."""
    data = samples.astype("<f4").tobytes()
    channels = samples.shape[1]
    form = struct.pack("<HHIIHH", 3, channels, rate, rate * channels * 4, channels * 4, 32)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    body += b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def write_long_wav(path: Path, *, hours: int) -> Path:
    """Silence of so many hours at 8 bit and 1 kHz, in a file with a hole where its samples are."""
    rate, num_bytes = 1_000, hours * 3_600 * 1_000
    write_wav(path, np.zeros((0, 1), dtype=np.uint8), rate=rate)
    header = bytearray(path.read_bytes())
    header[4:8] = struct.pack("<I", num_bytes + 36)
    header[40:44] = struct.pack("<I", num_bytes)
    path.write_bytes(header)
    os.truncate(path, len(header) + num_bytes)
    return path


def write_forbidden(path: Path) -> Path:
    """A file that is there and cannot be read: by its mode, or, for root, whom no mode stops, by its nature."""
    if os.geteuid() == 0:
        path.symlink_to("/proc/self/mem")
    else:
        path.write_bytes(b"RIFF")
        path.chmod(0)
    return path
