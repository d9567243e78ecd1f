import pytest
import torch

from inference.diffusion.kernels import naive, open_rows
from inference.diffusion.kernels.naive import Canvases

MASK = 7
SPANS = [(3, 160), (160, 161), (200, 200), (170, 199), (205, 340)]
FILLED = 3  # the canvas in which nothing is masked


def make_canvases(device, seed):
    """Canvases of odd lengths, one empty, one filled up; open are the masked places and some others."""
    generator = torch.Generator().manual_seed(seed)
    num_places = 350
    tokens = torch.randint(0, 10, (num_places,), generator=generator, dtype=torch.int32)
    first, last = SPANS[FILLED]
    tokens[first:last] = 1
    tokens[160] = MASK
    just_committed = torch.rand(num_places, generator=generator) < 0.3
    return Canvases(
        tokens=tokens.to(device),
        positions=torch.randint(0, 900, (num_places,), generator=generator).int().to(device),
        is_open=((tokens == MASK) | just_committed).to(torch.int32).to(device),
        commit_step=torch.randint(0, 5, (num_places,), generator=generator).int().to(device),
        row_of_place=torch.full((num_places,), -1, dtype=torch.int32, device=device),
        mask_token_id=MASK,
    )


@pytest.mark.parametrize("spare", [0, 5, 300])
def test_counts_and_lists_what_is_open(spare, device):
    expected, found = make_canvases(device, 1), make_canvases(device, 1)
    start, end = torch.tensor(SPANS, dtype=torch.int32, device=device).T.contiguous()
    count = naive.count_open(expected, start, end)
    assert torch.equal(open_rows.count_open(found, start, end), count)
    assert count[:, FILLED].tolist() == [0, 0]
    num_rows, num_heads = (count.sum(1) + spare).tolist()
    wanted = naive.list_open(expected, start, end, count, num_rows=num_rows, num_heads=num_heads)
    rows = open_rows.list_open(found, start, end, count, num_rows=num_rows, num_heads=num_heads)
    for name in ("place", "token", "position", "canvas", "head_row", "head_place", "canvas_last"):
        assert torch.equal(getattr(rows, name), getattr(wanted, name)), name
    for name in ("tokens", "is_open", "commit_step", "row_of_place"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    masked = rows.head_place[: count[1].sum()].long()
    assert (found.tokens[masked] == MASK).all()


def test_after_a_step_what_was_masked_is_open(device):
    canvases = make_canvases(device, 2)
    start, end = torch.tensor(SPANS[:2], dtype=torch.int32, device=device).T.contiguous()
    count = open_rows.count_open(canvases, start, end)
    num_open, num_masked = count.sum(1).tolist()
    rows = open_rows.list_open(canvases, start, end, count, num_rows=num_open, num_heads=num_masked)
    canvases.tokens[rows.head_place[: num_masked // 2].long()] = 2
    assert open_rows.count_open(canvases, start, end)[0].sum() == num_masked
