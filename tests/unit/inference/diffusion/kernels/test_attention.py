import pytest
import torch

from inference.diffusion.kernels import naive
from inference.diffusion.kernels.attention import AttentionConfig, ragged_attention

PROMPTS = [70, 3, 33, 64, 0]
CANVASES = [[9, 40, 17], [5], [1, 66], [12, 12], [50]]
OPEN = [[4, 19, 0], [5], [1, 30], [0, 0], [7]]
SMALL = AttentionConfig(queries=32, keys=32, num_stages=2)


def make_calls(device):
    """Calls with prompts, canvases and open positions of odd lengths, behind each other in a cache with gaps."""
    starts, ends, canvas_starts, canvas_ends, row_canvas, offsets = [], [], [], [], [], [0]
    place = 5
    for prompt, canvases, num_open in zip(PROMPTS, CANVASES, OPEN, strict=True):
        starts.append(place)
        place += prompt
        ends.append(place)
        for canvas, count in zip(canvases, num_open, strict=True):
            place += 40 if len(canvas_starts) == 1 else 2
            row_canvas += [len(canvas_starts)] * count
            canvas_starts.append(place)
            place += canvas
            canvas_ends.append(place)
        offsets.append(len(row_canvas))
    num_rows, spare = len(row_canvas), 3

    def on_device(values):
        return torch.tensor(values, dtype=torch.int32, device=device)

    rows = naive.OpenRows(
        call_offsets=on_device(offsets),
        prompt_start=on_device(starts),
        prompt_end=on_device(ends),
        row_canvas=on_device(row_canvas + [0] * spare),
        canvas_start=on_device(canvas_starts),
        canvas_end=on_device(canvas_ends),
    )
    return rows, num_rows, num_rows + spare, place + 7


def make_inputs(rows, num_rows, cache_rows, n_heads, n_kv_heads, head_dim, dtype, device):
    """Random q, and keys and values that are NaN in every row of the cache that holds nothing."""
    generator = torch.Generator().manual_seed(head_dim + n_heads)
    q = torch.randn(num_rows, n_heads, head_dim, generator=generator).to(device, dtype)
    caches = [torch.full((cache_rows, n_kv_heads, head_dim), torch.nan) for _ in range(2)]
    pairs = [(rows.prompt_start, rows.prompt_end), (rows.canvas_start, rows.canvas_end)]
    for start, end in (
        (s, e) for a, b in pairs for s, e in zip(a.tolist(), b.tolist(), strict=True)
    ):
        for cache in caches:
            cache[start:end] = torch.randn(end - start, n_kv_heads, head_dim, generator=generator)
    return (q, *(cache.to(device, dtype) for cache in caches))


@pytest.mark.parametrize("split_keys", [None, 32])
@pytest.mark.parametrize(
    ("n_heads", "n_kv_heads", "head_dim"), [(2, 2, 64), (4, 1, 128), (6, 3, 64)]
)
def test_equals_plain_attention(n_heads, n_kv_heads, head_dim, split_keys, dtype, device):
    rows, num_rows, capacity, cache_rows = make_calls(device)
    q, keys, values = make_inputs(
        rows, capacity, cache_rows, n_heads, n_kv_heads, head_dim, dtype, device
    )
    expected = naive.ragged_attention(q, keys, values, rows)[:num_rows]
    found = ragged_attention(
        q,
        keys,
        values,
        rows,
        max_rows_per_call=40,
        max_prompt=90,
        split_keys=split_keys,
        config=SMALL,
    )[:num_rows]
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[dtype]
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("split_keys", [None, 32])
def test_a_call_gives_the_same_bits_alone_and_among_others(
    split_keys, dtype, device, assert_same_bits
):
    rows, _, capacity, cache_rows = make_calls(device)
    q, keys, values = make_inputs(rows, capacity, cache_rows, 2, 2, 64, dtype, device)
    bounds = {"max_rows_per_call": 40, "split_keys": split_keys, "config": SMALL}
    among = ragged_attention(q, keys, values, rows, max_prompt=90, **bounds)
    first, last = rows.call_offsets[2].item(), rows.call_offsets[3].item()
    alone_rows = naive.OpenRows(
        call_offsets=rows.call_offsets[2:4] - first,
        prompt_start=rows.prompt_start[2:3],
        prompt_end=rows.prompt_end[2:3],
        row_canvas=rows.row_canvas[first:last].contiguous(),
        canvas_start=rows.canvas_start,
        canvas_end=rows.canvas_end,
    )
    alone = ragged_attention(
        q[first:last].contiguous(), keys, values, alone_rows, max_prompt=33, **bounds
    )
    assert_same_bits(alone, among[first:last])


@pytest.mark.parametrize("split_keys", [None, 32])
@pytest.mark.parametrize("num_canvases", [0, 1], ids=["no canvas", "an empty canvas"])
def test_prompts_that_see_themselves(num_canvases, split_keys, dtype, device):
    lengths = [33, 1, 70]
    offsets = torch.tensor([0, *lengths]).cumsum(0).int().to(device)
    num_rows = sum(lengths)
    q, keys, values = (
        torch.randn(num_rows, 2, 64, generator=torch.Generator().manual_seed(seed)).to(
            device, dtype
        )
        for seed in range(3)
    )
    nowhere = offsets.new_zeros(num_rows)
    canvas = nowhere[:num_canvases]
    rows = naive.OpenRows(
        offsets, offsets[:-1].clone(), offsets[1:].clone(), nowhere, canvas, canvas
    )
    bounds = {"max_rows_per_call": 70, "max_prompt": 70, "split_keys": split_keys, "config": SMALL}
    found = ragged_attention(q, keys, values, rows, **bounds)
    expected = naive.ragged_attention(q, keys, values, rows)
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[dtype]
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
