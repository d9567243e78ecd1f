import random
from collections.abc import Iterator
from itertools import count, pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from analytics.simulator.speech import render
from analytics.simulator.speech.corpus import mutate, splice, training_texts
from analytics.simulator.speech.espeak import Espeak, SpeechEngineError
from analytics.simulator.speech.line import (
    coloured_noise,
    from_mu_law_bytes,
    hold_music,
    mu_law_bytes,
    telephone_band,
)
from analytics.simulator.speech.render import Conditions, render_call
from analytics.simulator.speech.synthesis import resample_to_telephone, trim_silence
from analytics.simulator.speech.voices import (
    HELDOUT_ESPEAK_VOICES,
    HELDOUT_FLITE_VOICES,
    KNOWN_VOICES,
    TRAINING_VOICES,
    Voice,
)
from analytics.simulator.speech.wav import write_wav

_CALL: list[tuple[render.Role, str]] = [
    ("agent", "Thanks for calling, how can I help?"),
    ("caller", "I'd like to book a cleaning."),
    ("caller", "For Tuesday."),
    ("agent", "Sure, one moment."),
    ("caller", "Okay."),
] * 4


def _tone(text: str, voice: Voice, rng: random.Random) -> tuple[np.ndarray, str]:
    """Stands in for an engine: a tone as long as the text, its pitch told by the voice."""
    time = np.arange(400 * len(text)) / 8_000
    hz = 400 + KNOWN_VOICES.index(voice) * 20
    return (0.1 * np.sin(2 * np.pi * hz * time)).astype(np.float32), text


@pytest.fixture
def _without_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "speak_written", _tone)


@pytest.mark.usefixtures("_without_engines")
def test_turns_sound_where_they_are_said_to_on_their_own_channel() -> None:
    quiet = Conditions(barge_in=0.3, hold=0, noise_db=(60, 61), crosstalk_db=80)
    call = render_call(_CALL, 4, conditions=quiet)
    assert sorted(turn.text for turn in call.turns) == sorted(text for _, text in _CALL)
    assert [turn.start_ms for turn in call.turns] == sorted(turn.start_ms for turn in call.turns)
    assert call.duration_ms >= max(turn.end_ms for turn in call.turns)
    heard = np.abs(call.audio) > 0.01
    spoken = np.zeros_like(heard)
    for turn in call.turns:
        channel = 0 if turn.role == "agent" else 1
        spoken[channel, turn.start_ms * 8 : turn.end_ms * 8] = True
        assert heard[channel, turn.start_ms * 8 : turn.end_ms * 8].mean() > 0.5
    assert (heard & ~spoken).mean() < 0.001
    for role in ("agent", "caller"):
        own = [turn for turn in call.turns if turn.role == role]
        assert all(first.end_ms < second.start_ms for first, second in pairwise(own))


@pytest.mark.usefixtures("_without_engines")
def test_speakers_barge_in_and_hold_music_plays() -> None:
    pushy = render_call(_CALL, 2, conditions=Conditions(barge_in=1.0, hold=0, long_silence=0))
    overlaps = [
        second.start_ms < first.end_ms
        for first, second in zip(pushy.turns, pushy.turns[1:], strict=False)
    ]
    assert any(overlaps)
    held = render_call(_CALL, 2, conditions=Conditions(barge_in=0, hold=1.0))
    assert held.duration_ms > pushy.duration_ms + 40_000


@pytest.mark.usefixtures("_without_engines")
def test_a_seed_gives_one_recording() -> None:
    assert np.array_equal(render_call(_CALL, 9).audio, render_call(_CALL, 9).audio)
    assert render_call(_CALL, 9).turns != render_call(_CALL, 10).turns


@pytest.mark.parametrize("encoding", ["mu_law", "pcm16"])
def test_wav_files_decode_to_what_was_written(tmp_path: Path, encoding: str) -> None:
    audio = np.stack([hold_music(16_000, np.random.default_rng(seed)) for seed in (1, 2)])
    path = tmp_path / "call.wav"
    write_wav(path, audio, "mu_law" if encoding == "mu_law" else "pcm16")
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        assert (stream.rate, stream.channels) == (8_000, 2)
        decoded = np.concatenate([frame.to_ndarray() for frame in container.decode(stream)], axis=1)
    samples = decoded.reshape(-1, 2).T / 32_768
    assert np.abs(samples - audio).max() < (0.02 if encoding == "mu_law" else 0.0001)


def test_mu_law_keeps_small_values_finely() -> None:
    samples = np.linspace(-0.01, 0.01, 2_001).astype(np.float32)
    assert np.abs(from_mu_law_bytes(mu_law_bytes(samples)) - samples).max() < 0.0003


def test_the_line_passes_the_voice_band_only() -> None:
    time = np.arange(8_000) / 8_000
    gain = {
        hz: telephone_band(np.sin(2 * np.pi * hz * time).astype(np.float32)).std() / 0.7071
        for hz in (60, 1_000, 3_900)
    }
    assert gain[1_000] > 0.99
    assert max(gain[60], gain[3_900]) < 0.02


def test_noise_has_unit_power() -> None:
    assert coloured_noise(8_000, np.random.default_rng(0)).std() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050])
def test_resampling_keeps_a_tone_in_place(rate: int) -> None:
    tone = np.sin(2 * np.pi * 700 * np.arange(rate) / rate).astype(np.float32)
    wanted = np.sin(2 * np.pi * 700 * np.arange(8_000) / 8_000)
    made = resample_to_telephone(tone, rate)
    assert len(made) == 8_000
    assert np.abs(made - wanted)[200:-200].max() < 0.02


def test_silence_is_trimmed_to_a_short_edge() -> None:
    samples = np.zeros(8_000, np.float32)
    samples[3_000:4_000] = 0.5
    assert len(trim_silence(samples, 8_000)) == 1_000 - 1 + 2 * 160
    assert len(trim_silence(np.zeros(100, np.float32), 8_000)) == 0


def test_no_held_out_voice_is_trained_on() -> None:
    trained = {voice.name for voice in TRAINING_VOICES}
    assert len(trained) >= 25
    assert not trained & {voice.name for voice in (*HELDOUT_ESPEAK_VOICES, *HELDOUT_FLITE_VOICES)}
    assert sum(voice.weight for voice in TRAINING_VOICES) == pytest.approx(1)


def test_a_missing_engine_is_named() -> None:
    with pytest.raises(SpeechEngineError, match="apt-get install"):
        Espeak("libno-such-engine.so.1")


def test_mixed_texts_are_written_as_sentences() -> None:
    rng = random.Random(3)
    first, second = (
        ["Can", "I", "move", "it", "to", "Friday,", "please?"],
        ["My", "sink", "is", "leaking", "again."],
    )
    for _ in range(50):
        for text in (splice(first, second, rng), mutate(first, rng)):
            assert text[0].isupper() or not text[0].isalpha()
            assert text[-1] in ".?!"
            assert len(text.split()) <= 60


def test_the_corpus_mixes_calls_with_other_text() -> None:
    said: list[str] = []

    def calls(seed: int, split: str) -> Iterator[str]:
        for number in count(1):
            said.append(f"Turn {number} of this long call says exactly this much.")
            yield said[-1]

    stream = training_texts(1, calls)
    texts = [next(stream) for _ in range(2_000)]
    assert 0.3 < sum(text in said for text in texts) / len(texts) < 0.4
    assert len(set(texts)) > 1_900
