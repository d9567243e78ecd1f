import pytest
import torch

from inference.diffusion.kernels import naive
from inference.diffusion.kernels.rope_store import rotate_and_store
from inference.diffusion.model import rope_tables, rotate


@pytest.fixture
def tables(device):
    def make(head_dim):
        cos, sin = rope_tables(torch.arange(300, device=device), head_dim, 5e5)
        return [x[:, 0, : head_dim // 2].contiguous() for x in (cos, sin)]

    return make


@pytest.mark.parametrize(
    ("n_heads", "n_kv_heads", "head_dim"), [(3, 3, 64), (8, 2, 128), (5, 1, 16)]
)
def test_rotates_and_stores_slices_of_one_projection(
    n_heads, n_kv_heads, head_dim, dtype, device, tables
):
    num_rows, cache_size = 13, 40
    generator = torch.Generator().manual_seed(head_dim)
    heads = n_heads + 2 * n_kv_heads
    qkv = torch.randn(num_rows, heads, head_dim, generator=generator).to(device, dtype)
    q, k, v = qkv.split([n_heads, n_kv_heads, n_kv_heads], dim=1)
    positions = torch.randint(0, 300, (num_rows,), generator=generator).to(device)
    cache_rows = torch.randperm(cache_size, generator=generator)[:num_rows].to(device).int()
    cache_rows[[2, 7]] = -1
    shape = (cache_size, n_kv_heads, head_dim)
    keys, values, true_keys, true_values = (
        torch.full(shape, torch.nan, dtype=dtype, device=device) for _ in range(4)
    )
    cos, sin = tables(head_dim)
    expected = naive.rotate_and_store(
        q, k, v, positions, cache_rows, cos, sin, true_keys, true_values
    )
    found = rotate_and_store(q, k, v, positions, cache_rows, cos, sin, keys, values)
    bound = {"rtol": torch.finfo(dtype).eps, "atol": 1e-6, "equal_nan": True}
    torch.testing.assert_close(found, expected, **bound)
    torch.testing.assert_close(keys, true_keys, **bound)
    assert torch.equal(values.isnan(), true_values.isnan())
    assert torch.equal(values.nan_to_num(), true_values.nan_to_num())
    assert values.isnan().all(dim=(1, 2)).sum() == cache_size - num_rows + 2


def test_rotates_as_the_model_does(dtype, device, tables):
    q = torch.randn(9, 2, 64, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    positions = torch.arange(0, 270, 30, device=device)
    caches = [torch.zeros(1, 2, 64, dtype=dtype, device=device) for _ in range(2)]
    nowhere = torch.full((9,), -1, device=device)
    expected = rotate(q, *rope_tables(positions, 64, 5e5))
    for function in (naive.rotate_and_store, rotate_and_store):
        found = function(q, q, q, positions, nowhere, *tables(64), *caches)
        torch.testing.assert_close(found, expected, rtol=torch.finfo(dtype).eps, atol=1e-6)
