"""Who speaks when, on recorded synthetic speech: beginnings are kept, a neighbour's leak is not, a quiet person is."""

import json

import numpy as np
import pytest

from analytics.simulator.speech.line import coloured_noise, hold_music
from inference.speech.media import read_recording
from inference.speech.recognizer import find_clips
from inference.speech.voice_activity import FRAME, copied, levels_db, runs, stretches
from tests.unit.inference.speech.make_recordings import DIRECTORY, NUM_CALLS

RATE = 16_000


def at_16_khz(samples: np.ndarray) -> np.ndarray:
    places = np.arange(2 * samples.shape[-1]) / 2
    known = np.arange(samples.shape[-1])
    return np.stack([np.interp(places, known, one) for one in samples]).astype(np.float32)


def recorded(name: str) -> np.ndarray:
    """float32 [channels, n] at 16 kHz."""
    return read_recording(DIRECTORY / f"{name}.wav", max_seconds=60).audio


@pytest.fixture(scope="module")
def said() -> np.ndarray:
    """A sentence at 16 kHz, float32 [n]."""
    return recorded("opening-hours")[0]


def line(seed: int, seconds: float, level_db: float = -55) -> np.ndarray:
    noise = coloured_noise(int(seconds * RATE), np.random.default_rng(seed))
    return noise * 10 ** (level_db / 20)


def placed(samples: np.ndarray, at_s: float, gain_db: float, on: np.ndarray) -> np.ndarray:
    mixed = on.copy()
    start = int(at_s * RATE)
    mixed[start : start + len(samples)] += samples * 10 ** (gain_db / 20)
    return mixed


@pytest.mark.parametrize("call", [f"call-{seed}" for seed in range(NUM_CALLS)])
def test_every_turn_is_kept_from_its_first_word_to_its_last(call):
    spoken = json.loads((DIRECTORY / "turns.json").read_text())[call]
    for role, clips in zip(("agent", "caller"), find_clips(recorded(call)), strict=True):
        turns = [turn for turn in spoken if turn["role"] == role]
        for turn in turns:
            assert any(
                clip["start"] * 1_000 <= turn["start_ms"] + 50
                and clip["end"] * 1_000 >= turn["end_ms"] - 50
                for clip in clips
            ), (turn, clips)
        for clip in clips:
            assert any(
                clip["start"] * 1_000 < turn["end_ms"] and clip["end"] * 1_000 > turn["start_ms"]
                for turn in turns
            ), (clip, turns)


@pytest.mark.parametrize("leak_db", [-26, -32, -38])
@pytest.mark.parametrize("noise_db", [-85, -65, -50])
def test_a_leak_is_not_heard_on_the_other_channel(said, leak_db, noise_db):
    seconds = len(said) / RATE + 3
    loud = placed(said, 1.5, 0, line(1, seconds))
    leaking = placed(said, 1.5, leak_db, line(2, seconds, noise_db))
    own, foreign = find_clips(np.stack([loud, leaking]))
    assert own
    assert foreign == []


def test_an_echo_a_moment_later_is_not_heard_either(said):
    seconds = len(said) / RATE + 3
    loud = placed(said, 1.0, 0, line(1, seconds))
    echoing = placed(said, 1.15, -24, line(2, seconds, -75))
    assert find_clips(np.stack([loud, echoing]))[1] == []


@pytest.mark.parametrize("gain_db", [0, -12, -24])
def test_a_quiet_person_on_the_other_channel_stays(said, gain_db):
    other = recorded("excuse-me")[0]
    seconds = (len(said) + len(other)) / RATE + 4
    loud = placed(said, 1.0, 0, line(1, seconds, -75))
    quiet = placed(other, len(said) / RATE + 2.5, gain_db, line(2, seconds, -75))
    clips = find_clips(np.stack([loud, quiet]))[1]
    assert clips
    assert clips[0]["start"] <= len(said) / RATE + 2.55


def test_who_talks_over_a_loud_one_stays(said):
    other = recorded("no-wait")[0]
    seconds = max(len(said), len(other)) / RATE + 3
    loud = placed(said, 1.0, 0, line(1, seconds, -75))
    below = placed(other, 1.2, -14, line(2, seconds, -75))
    assert find_clips(np.stack([loud, below]))[1]


def test_hold_music_alone_is_no_speech():
    music = hold_music(20 * 8_000, np.random.default_rng(5))
    noise = line(3, 20, -65)
    audio = at_16_khz(np.stack([music, music * 0]))
    audio[1] = noise
    assert find_clips(audio) == [[], []]


def test_a_copy_has_to_be_quieter_and_alike():
    rng = np.random.default_rng(0)
    other = -20 + 6 * np.sin(np.arange(200) / 3)
    assert not copied(other - 10, other).any()
    assert copied(other - 30, other).all()
    silent = np.arange(200) % 8 == 0  # so that its noise lies far below
    unlike = np.where(silent, -90, -50 + 6 * rng.standard_normal(200))
    assert not copied(unlike, other).any()
    assert len(copied(np.zeros(0), np.zeros(0))) == 0


@pytest.mark.parametrize("seed", range(20))
def test_stretches_hold_whatever_is_believed_and_never_overlap(seed):
    rng = np.random.default_rng(seed)
    num_frames, longest = int(rng.integers(1, 3_000)), 120
    believed = np.repeat(rng.random(num_frames // 20 + 1) ** 3, 20)[:num_frames]
    levels = np.where(believed < 0.1, -60.0, -30.0)
    levels[0] = -60
    found = stretches(believed, levels, longest)
    covered = np.zeros(num_frames, dtype=int)
    for one in found:
        assert 0 <= one.first < one.end <= num_frames
        assert one.end - one.first <= longest
        covered[one.first : one.end] += 1
    assert covered.max(initial=0) <= 1
    for run in runs((believed >= 0.3) & (levels > np.percentile(levels, 10))):
        if run.end - run.first >= 3:
            assert covered[run.first : run.end].all()


def test_levels_follow_the_samples():
    samples = np.concatenate([np.zeros(FRAME * 20), np.full(FRAME * 20, 0.1)]).astype(np.float32)
    levels = levels_db(samples)
    assert len(levels) == 40
    assert levels[5] == -90
    assert levels[30] == pytest.approx(-20, abs=0.1)
