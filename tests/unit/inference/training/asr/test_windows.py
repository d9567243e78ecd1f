import random

import numpy as np
import pytest
import torch

from inference.training.asr.pool import PoolView
from inference.training.asr.tokenizer import SpecialIds
from inference.training.asr.windows import IGNORED, MAX_TARGET, WindowMix, WindowPlanner

_IDS = SpecialIds(
    end=400,
    start=401,
    previous=406,
    no_speech=407,
    no_timestamps=408,
    first_timestamp=409,
    size=1_910,
)


@pytest.fixture(scope="module")
def view() -> PoolView:
    rng = random.Random(0)
    lengths = np.array([int(rng.uniform(0.4, 6) * 8_000) for _ in range(200)])
    return PoolView(
        starts=np.concatenate(([0], np.cumsum(lengths)[:-1])),
        lengths=lengths,
        # Each utterance is written as ten copies of its own number.
        tokens=[[number] * 10 for number in range(200)],
        spoken=["hello there you"] * 200,
        by_voice=[list(range(0, 200, 2)), list(range(1, 200, 2))],
    )


@pytest.mark.parametrize("seconds", [8, 30])
def test_targets_are_the_utterances_in_place(view: PoolView, seconds: int) -> None:
    planner = WindowPlanner(_IDS, 3, WindowMix(empty=0, prompt=0, input_noise=0))
    batch = planner.batch(view, 64, seconds)
    placement = batch.placement
    for window in range(64):
        rows = (placement.window == window).nonzero().flatten()
        starts, lengths = placement.start[rows], placement.length[rows]
        ends = starts + lengths
        assert (starts[1:] >= ends[:-1]).all()
        assert int(ends.max()) <= seconds * 8_000
        assert int(batch.frames[window]) * 80 >= int(ends.max()) - 80
        targets = [token for token in batch.targets[window].tolist() if token != IGNORED]
        assert targets[-1] == _IDS.end
        utterances = [
            int(np.searchsorted(view.starts, int(source))) for source in placement.source[rows]
        ]
        text = [token for token in targets if token < _IDS.end]
        stamps = [
            token - _IDS.first_timestamp for token in targets if token >= _IDS.first_timestamp
        ]
        if not stamps:
            assert targets[0] == _IDS.no_timestamps
            assert text == [number for number in utterances for _ in range(10)]
            continue
        cut = len(stamps) % 2 == 1
        assert text == [number for number in utterances[: len(utterances) - cut] for _ in range(10)]
        assert stamps[0] == min(50, round(int(starts[0]) / 160))
        assert stamps[2::2] == [round(start / 160) for start in starts.tolist()[1:]]


def test_inputs_are_targets_shifted(view: PoolView) -> None:
    planner = WindowPlanner(_IDS, 5, WindowMix(input_noise=0, prompt=0, empty=0))
    batch = planner.batch(view, 32, 16)
    for inputs, targets in zip(batch.inputs, batch.targets, strict=True):
        count = int((targets != IGNORED).sum())
        assert int(inputs[0]) == _IDS.start
        assert torch.equal(inputs[1:count], targets[: count - 1])


def test_prompts_are_read_but_not_learned(view: PoolView) -> None:
    batch = WindowPlanner(_IDS, 5, WindowMix(prompt=1.0, empty=0)).batch(view, 32, 30)
    assert batch.inputs.shape[1] <= MAX_TARGET
    for inputs, targets in zip(batch.inputs, batch.targets, strict=True):
        start = inputs.tolist().index(_IDS.start)
        assert inputs[0] == _IDS.previous
        assert 1 <= start - 1 <= 223
        assert (targets[:start] == IGNORED).all()
        assert targets[start] != IGNORED


def test_empty_windows_teach_silence(view: PoolView) -> None:
    batch = WindowPlanner(_IDS, 5, WindowMix(empty=1.0, prompt=0)).batch(view, 200, 8)
    assert batch.placement.total == 0
    silent = (batch.targets[:, 0] == _IDS.no_speech).float().mean()
    assert 0.7 < silent < 0.9
    assert (batch.targets[:, 1] == _IDS.end).all()
    assert int(batch.letter_counts.sum()) == 0


def test_input_noise_touches_text_only(view: PoolView) -> None:
    batch = WindowPlanner(_IDS, 5, WindowMix(input_noise=1.0, prompt=0)).batch(view, 32, 30)
    special = batch.inputs >= _IDS.end
    shifted = torch.cat((batch.inputs[:, :1], batch.targets[:, :-1]), dim=1)
    learned = batch.targets != IGNORED
    assert torch.equal(
        batch.inputs[special & learned],
        shifted[special & learned].where(
            shifted[special & learned] != _IDS.no_speech, batch.inputs[special & learned]
        ),
    )


def test_letters_fit_their_frames(view: PoolView) -> None:
    batch = WindowPlanner(_IDS, 5).batch(view, 64, 30)
    assert len(batch.letters) == int(batch.letter_counts.sum())
    assert (batch.letter_counts * 3 <= batch.frames).all()
    assert batch.letters.min() >= 1


def test_learned_positions_are_the_targets_that_count(view: PoolView) -> None:
    batch = WindowPlanner(_IDS, 5).batch(view, 16, 16)
    flat = batch.targets.flatten()
    assert (flat[batch.learned] != IGNORED).all()
    assert len(batch.learned) == int((flat != IGNORED).sum())


def test_a_seed_gives_one_batch(view: PoolView) -> None:
    first, second = (WindowPlanner(_IDS, 7).batch(view, 16, 16) for _ in range(2))
    assert torch.equal(first.inputs, second.inputs)
    assert torch.equal(first.placement.start, second.placement.start)


def test_a_voice_is_heard_as_much_as_it_speaks(view: PoolView) -> None:
    lopsided = PoolView(
        view.starts, view.lengths, view.tokens, view.spoken, [[0, 1], list(range(2, 200))]
    )
    planner = WindowPlanner(_IDS, 3, WindowMix(empty=0, prompt=0, input_noise=0, one_voice=1.0))
    sources = planner.batch(lopsided, 200, 8).placement.source
    rare = (sources <= int(view.starts[1])).float().mean()
    assert rare < 0.1
