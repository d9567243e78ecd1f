import pytest
import torch

from inference.diffusion.kernels import naive
from inference.diffusion.kernels.commit import commit
from inference.diffusion.kernels.naive import Rule

PARAMETERS = {
    Rule.THRESHOLD: [0.9, 0.3, 2.0, 0.5, 0.0],
    Rule.FACTOR: [1.0, 0.2, 3.0, 0.0, 1.5],
    Rule.QUOTA: [1, 4, 0, 100, 7],
    Rule.JOINT: [0.5, 0.1, 0.99, -5.0, 0.0],
}
NUM_ROWS = [7, 0, 63, 1, 40]
LENGTH = 90  # of a canvas


def make_state(device, confidence=None):
    """Five canvases with some positions masked, two rows of padding, and buffers that show what is written."""
    generator = torch.Generator().manual_seed(sum(NUM_ROWS))
    positions = [
        canvas * LENGTH + torch.randperm(LENGTH, generator=generator)[:count].sort().values
        for canvas, count in enumerate(NUM_ROWS)
    ]
    total = sum(NUM_ROWS) + 2
    if confidence is None:
        confidence = torch.rand(total, generator=generator) ** 0.2
    padding = torch.zeros(2, dtype=torch.int64)
    return {
        "tokens": torch.full((len(NUM_ROWS) * LENGTH,), -7, device=device),
        "token_confidence": torch.full((len(NUM_ROWS) * LENGTH,), torch.nan, device=device),
        "confidence": confidence.to(device),
        "choice": torch.arange(1000, 1000 + total, dtype=torch.int32, device=device),
        "position": torch.cat([*positions, padding]).int().to(device),
        "offsets": torch.tensor([0, *NUM_ROWS]).cumsum(0).int().to(device),
    }


def run_both(state, rule, parameter, **options):
    """The kernel's result and buffers after the naive ones agree with them."""
    parameter = torch.tensor(parameter, dtype=torch.float32, device=state["tokens"].device)
    expected = {name: value.clone() for name, value in state.items()}
    truth = naive.commit(**expected, parameter=parameter, rule=rule, **options)
    found = commit(**state, parameter=parameter, rule=rule, max_rows=63, **options)
    assert torch.equal(found.is_committed, truth.is_committed)
    assert torch.equal(found.num_masked, truth.num_masked)
    assert torch.equal(found.is_done, truth.is_done)
    assert torch.equal(state["tokens"], expected["tokens"])
    for confidence in ("token_confidence", "confidence"):
        assert torch.equal(
            state[confidence].nan_to_num(-1.0), expected[confidence].nan_to_num(-1.0)
        )
    return found


@pytest.mark.parametrize("rule", Rule)
def test_equals_the_naive_commit(rule, device):
    state = make_state(device)
    found = run_both(state, rule, PARAMETERS[rule])
    assert found.is_done.tolist()[1]
    assert not found.is_committed[-2:].any()
    assert (state["tokens"] >= 1000).sum() == found.is_committed.sum()


@pytest.mark.parametrize("rule", Rule)
def test_always_moves_on_whatever_the_confidences(rule, device):
    confidence = torch.full((sum(NUM_ROWS) + 2,), torch.nan)
    confidence[::3] = -torch.inf
    state = make_state(device, confidence)
    refuse = {Rule.THRESHOLD: 2.0, Rule.FACTOR: -1.0, Rule.QUOTA: 0.0, Rule.JOINT: 2.0}[rule]
    found = run_both(state, rule, [refuse] * len(NUM_ROWS))
    taken = [part.sum().item() for part in found.is_committed[:-2].split(NUM_ROWS)]
    assert taken == [min(1, count) for count in NUM_ROWS]


def test_the_earlier_of_equal_confidences_goes_first(device):
    state = make_state(device, torch.full((sum(NUM_ROWS) + 2,), 0.5))
    found = run_both(state, Rule.QUOTA, [3, 3, 3, 3, 3])
    assert found.is_committed[:7].tolist() == [True] * 3 + [False] * 4


def test_blocks_are_filled_one_after_the_other(device):
    state = make_state(device)
    starts = torch.arange(len(NUM_ROWS), device=device).int() * LENGTH
    found = run_both(state, Rule.QUOTA, [100] * len(NUM_ROWS), block_length=32, canvas_start=starts)
    place = (state["position"] % LENGTH).split([*NUM_ROWS, 2])
    for places, committed in zip(place, found.is_committed.split([*NUM_ROWS, 2]), strict=True):
        if committed.any():
            assert torch.equal(committed, places // 32 == places[0] // 32)


def test_half_precision_confidences_and_wide_indices(device):
    state = make_state(device)
    state["confidence"] = state["confidence"].half()
    state["position"] = state["position"].long()
    state["choice"] = state["choice"].long()
    run_both(state, Rule.THRESHOLD, PARAMETERS[Rule.THRESHOLD])
