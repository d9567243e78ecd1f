"""What lies around the products: normalisation, gated activation, and the projection whose rows are independent."""

import pytest
import torch

from inference.diffusion.kernels import naive
from inference.diffusion.kernels.gate import gate
from inference.diffusion.kernels.linear import linear
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


def test_a_row_has_the_same_bits_alone_and_among_others(dtype, device, assert_same_bits):
    x = randn(300, 72, seed=1, dtype=dtype, device=device)
    weight = randn(200, 72, seed=2, dtype=dtype, device=device)
    among = linear(x, weight)
    for row in (0, 131, 299):
        assert_same_bits(linear(x[row : row + 1], weight), among[row : row + 1])
