"""What `aftercall doctor` says of GPUs. They are test doubles: the machine that runs the tests has none."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from workers.cli.checks import examine_device


@pytest.mark.parametrize(
    ("shared_memory", "state", "words"),
    [
        (232_448, "ok", "NVIDIA Large, NVIDIA Large"),
        (101_376, "optional", "the analysis runs in plain PyTorch"),
    ],
)
def test_a_gpu_and_whether_the_kernels_run_there(
    monkeypatch: pytest.MonkeyPatch, shared_memory: int, state: str, words: str
) -> None:
    properties = SimpleNamespace(shared_memory_per_block_optin=shared_memory)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA Large")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    finding = examine_device()
    assert finding.state == state
    assert words in finding.detail
