"""What lies around the products: normalisation, gated activation, and the projection whose rows are independent."""

import sys

import pytest
import torch

from inference.diffusion.kernels import naive
from inference.diffusion.kernels.gate import gate
from inference.diffusion.kernels.linear import gated_linear, linear
from inference.diffusion.kernels.norm import rms_norm

TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def randn(*shape, seed, dtype, device):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


@pytest.mark.parametrize(("num_rows", "width"), [(1, 64), (63, 96), (5, 1000)])
def test_normalises(num_rows, width, dtype, device):
    x = 3 * randn(num_rows, width, seed=1, dtype=dtype, device=device)
    weight = randn(width, seed=2, dtype=dtype, device=device)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(
        rms_norm(x, weight, 1e-5), naive.rms_norm(x, weight, 1e-5), rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize(("num_rows", "width"), [(1, 64), (63, 96), (5, 1000)])
def test_gates(num_rows, width, dtype, device):
    hidden = randn(num_rows, 2 * width, seed=1, dtype=dtype, device=device)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(gate(hidden), naive.gate(hidden), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize(
    ("num_rows", "num_inner", "num_columns"), [(1, 64, 64), (63, 72, 200), (1300, 40, 129)]
)
def test_projects(num_rows, num_inner, num_columns, adds, dtype, device):
    x = randn(num_rows, num_inner, seed=1, dtype=dtype, device=device)
    weight = randn(num_columns, num_inner, seed=2, dtype=dtype, device=device) * num_inner**-0.5
    rows = randn(num_rows, num_columns, seed=3, dtype=dtype, device=device) if adds else None
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(
        linear(x, weight, rows), naive.linear(x, weight, rows), rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize(
    ("num_rows", "num_inner", "width"), [(1, 64, 64), (63, 72, 200), (1300, 40, 129)]
)
def test_projects_and_gates(num_rows, num_inner, width, dtype, device):
    x = randn(num_rows, num_inner, seed=1, dtype=dtype, device=device)
    weight = randn(2 * width, num_inner, seed=2, dtype=dtype, device=device) * num_inner**-0.5
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(
        gated_linear(x, weight), naive.gated_linear(x, weight), rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize(("project", "tiles"), [(linear, "TILES"), (gated_linear, "GATED_TILES")])
def test_a_row_has_the_same_bits_alone_and_among_others(
    project, tiles, dtype, device, assert_same_bits, monkeypatch
):
    """Whatever tiles there are for many rows and for few."""
    module = sys.modules[linear.__module__]
    x = randn(300, 136, seed=1, dtype=dtype, device=device)
    weight = randn(400, 136, seed=2, dtype=dtype, device=device)
    found = []
    for tile in getattr(module, tiles):
        monkeypatch.setattr(module, tiles, (tile,))
        found.append(project(x, weight))
        for row in (0, 131, 299):
            assert_same_bits(project(x[row : row + 1], weight), found[0][row : row + 1])
    for other in found[1:]:
        assert_same_bits(other, found[0])
