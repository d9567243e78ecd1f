"""Kernel tests run on the GPU where there is one, and in Triton's interpreter elsewhere."""

import os
from functools import partial

import numpy as np
import pytest
import torch

from inference.diffusion.tokenizer import train_tokenizer

CORPUS = [
    "The caller wants to book an appointment for a haircut on Tuesday at 3 pm.",
    "Größe, déjà vu, ключ, 日本語, 🙂🙂 anna.smith@example.com 2026-11-22T10:15:00Z 99.95 -0.25",
    '{"outcome":"booked","outcome_turn":12,"tags":["red","green"],"price":null,"ok":true}',
]

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when a kernel's module is imported


@pytest.fixture(autouse=True)
def _quiet_interpreter():
    """Kernels subtract infinities in lanes that are masked; a GPU says nothing, the interpreter's numpy warns."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with np.errstate(all="ignore"):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def device():
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer(CORPUS * 8, vocab_size=500)


@pytest.fixture(params=["half", "wide"])
def dtype(request, device):
    """What models compute in. The interpreter multiplies bfloat16 matrices wrongly, the GPU float32 ones in tf32."""
    if request.param == "half":
        return torch.float16
    return torch.bfloat16 if device.type == "cuda" else torch.float32


@pytest.fixture
def assert_same_bits(device):
    """Bits are what a GPU is held to: in the interpreter numpy multiplies, in an order that depends on their place."""
    tolerance = 0 if device.type == "cuda" else 1e-3
    return partial(torch.testing.assert_close, rtol=tolerance, atol=tolerance)


@pytest.fixture(autouse=True)
def _poison_new_tensors(monkeypatch, device):
    """Fill what kernels are given to write with NaN (floats) or an absurd number (integers)."""
    absurd = {torch.int8: 101, torch.uint8: 101, torch.int16: 12345}
    poisoned = {name: getattr(torch, name) for name in ("empty", "empty_like")}
    new_empty = torch.Tensor.new_empty

    def poison(x):
        return x.fill_(torch.nan if x.is_floating_point() else absurd.get(x.dtype, 2**30 + 12345))

    for name, original in poisoned.items():
        monkeypatch.setattr(torch, name, lambda *a, _make=original, **k: poison(_make(*a, **k)))
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *a, **k: poison(new_empty(*a, **k)))
