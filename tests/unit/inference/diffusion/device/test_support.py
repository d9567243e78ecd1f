"""Device properties are test doubles: there is no other GPU to ask."""

from types import SimpleNamespace

import pytest
import torch

from inference.diffusion.device.support import runs_kernels


def test_no_kernels_without_a_gpu():
    assert not runs_kernels(torch.device("cpu"))


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"shared_memory_per_block_optin": 232_448}, True),
        ({"shared_memory_per_block_optin": 101_376}, False),
        ({}, False),
    ],
)
def test_kernels_want_the_memory_for_their_tiles(monkeypatch, properties, expected):
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda _: SimpleNamespace(**properties)
    )
    assert runs_kernels(torch.device("cuda", 0)) is expected
