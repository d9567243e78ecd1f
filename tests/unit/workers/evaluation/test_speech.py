"""Speech evaluation and the way from audio to records, with planted utterances instead of voices and a recogniser."""

from collections.abc import Sequence

import numpy as np
import pytest

from analytics.simulator import SimulatedCall
from analytics.simulator.speech.render import RenderedTurn, Role
from analytics.transcript import Transcript, Turn
from inference.speech import Utterance
from tests.unit.workers.evaluation.planted import load_loudness, planted
from workers.evaluation.end_to_end import compare_audio_with_text, heard_as
from workers.evaluation.run_speech import run_speech
from workers.evaluation.speech import HeardRecording, Transcribe, hear, report_on_speech
from workers.evaluation.speech_sets import SpokenRecording, Wordless
from workers.evaluation.text_sets import TEXT_SETS

TURN_MS = 1_000


def spoken(
    turns: Sequence[tuple[Role, str]],
    names: tuple[str, ...] = (),
    call: SimulatedCall | None = None,
) -> SpokenRecording:
    """A recording of noise that claims to hold these turns, one a second."""
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 8 * TURN_MS * (len(turns) + 1)))
    rendered = tuple(
        RenderedTurn(role, text, i * TURN_MS, (i + 1) * TURN_MS - 100)
        for i, (role, text) in enumerate(turns)
    )
    return SpokenRecording(audio, rendered, names, call)


def hears(utterances: Sequence[Utterance]) -> Transcribe:
    return lambda audio: list(utterances)


def perfectly(recording: SpokenRecording) -> Transcribe:
    """Hears every turn, 200 ms wider than it was, as voice activity cuts it."""
    return hears(
        [
            Utterance(
                int(t.role == "caller"), max(0, t.start_ms - 200), t.end_ms + 200, t.text, 0.9
            )
            for t in recording.turns
        ]
    )


def test_errors_are_counted_by_channel():
    recording = spoken(
        [("agent", "Hello there."), ("caller", "Hi, Dana Smith, for 3 pm."), ("agent", "Fine.")],
        names=("Dana Smith",),
    )
    wrong_side = [
        Utterance(0, 0, 900, "hello there", 0.9),
        Utterance(1, 1_000, 1_900, "hi dana smit for 4 pm", 0.9),
        Utterance(1, 2_000, 2_900, "fine", 0.9),
    ]
    heard = hear(recording, hears(wrong_side))
    errors = heard.errors
    assert (errors.num_words, errors.substitutions, errors.deletions, errors.insertions) == (
        9,
        2,
        1,
        1,
    )
    assert (errors.num_names, errors.missed_names) == (2, 1)
    assert (errors.num_digits, errors.missed_digits) == (1, 1)
    assert heard.audio_seconds == pytest.approx(4.0, abs=0.05)
    assert [turn.role for turn in heard.transcript.turns] == ["agent", "caller", "caller"]


def test_the_recogniser_gets_both_channels_at_16_khz():
    seen: list[np.ndarray] = []

    def transcribe(audio: np.ndarray) -> list[Utterance]:
        seen.append(audio)
        return []

    recording = spoken([("agent", "Hello.")])
    hear(recording, transcribe)
    assert seen[0].shape[0] == 2
    assert seen[0].shape[1] == pytest.approx(2 * recording.audio.shape[1], abs=64)
    # telephone coding keeps the loudness of what went in
    assert seen[0].std() == pytest.approx(recording.audio.std(), rel=0.15)


def test_report_weighs_words_not_recordings():
    long, short = (
        spoken([("agent", "one two three four five six seven eight nine")]),
        spoken([("agent", "one")]),
    )
    heard = [hear(long, perfectly(long)), hear(short, hears([]))]
    report = report_on_speech("set", "…", heard)
    assert report.estimates["wer"].value == pytest.approx(1 / 10)
    assert report.estimates["deletions"].value == pytest.approx(1 / 10)
    assert report.estimates["name_error"].value is None  # no word of these is a name
    assert report.estimates["speed"].value is not None


@pytest.mark.parametrize("kind", ["silence", "noise", "music"])
def test_wordless_minutes(kind):
    recordings = list(Wordless(kind, "…").recordings(2, seed=1))
    assert [recording.audio.shape for recording in recordings] == [(2, 60 * 8_000)] * 2
    loudness = recordings[1].audio.std(axis=1)
    if kind == "silence":
        assert max(loudness) < 0.003
    elif kind == "music":
        assert loudness[0] > 10 * loudness[1]
    invented = hears([Utterance(0, 0, 1_000, "thank you for watching", 0.5)])
    report = report_on_speech(
        kind, "…", [hear(recordings[0], invented), hear(recordings[1], hears([]))]
    )
    assert report.estimates["invented_words"].value == pytest.approx(4 / 2, rel=0.01)
    assert "wer" not in report.estimates


def test_several_processes_hear_what_one_hears():
    sets = (Wordless("noise", "…"), Wordless("music", "…"))
    alone, together = (
        run_speech(
            load_loudness,
            num_calls=5,
            seed=1,
            tell=lambda _: None,
            speech_sets=sets,
            processes=processes,
        )
        for processes in (1, 2)
    )
    for name in ("noise", "music"):
        texts = [
            [recording.transcript.turns[0].text for recording in run.heard[name]]
            for run in (alone, together)
        ]
        assert texts[0] == texts[1]
        assert len(set(texts[0])) == 5


CALLS = TEXT_SETS[0].calls(8)


def heard_calls(lost: frozenset[int] = frozenset()) -> list[HeardRecording]:
    made = []
    for i_call, call in enumerate(CALLS):
        recording = spoken([(turn.role, turn.text) for turn in call.spoken], call=call)
        made.append(hear(recording, hears([]) if i_call in lost else perfectly(recording)))
    return made


def test_perfect_hearing_loses_nothing():
    text, audio, difference = compare_audio_with_text(heard_calls(), planted(CALLS))
    assert text.estimates["accuracy.enums"].value == 1.0
    assert audio.estimates["evidence_precision"].value == 1.0
    assert audio.estimates["evidence_recall"].value == 1.0
    assert audio.estimates["unsupported_claims"].value == 0.0
    assert difference.estimates["accuracy.enums"].value == 0.0


def test_a_call_that_was_not_heard_has_no_records():
    text, audio, difference = compare_audio_with_text(heard_calls(frozenset({0})), planted(CALLS))
    assert text.estimates["valid.summary"].value == 1.0
    assert audio.estimates["valid.summary"].value == pytest.approx(7 / 8)
    assert difference.estimates["accuracy.enums"].value == pytest.approx(-1 / 8)


def test_recordings_without_calls_are_refused():
    recording = spoken([("agent", "Hello.")])
    with pytest.raises(ValueError, match="without its call"):
        compare_audio_with_text([hear(recording, hears([]))], planted(CALLS))


def test_heard_as_follows_speaker_and_time():
    def turn(number, role, start_ms, end_ms):
        return Turn(number, role, start_ms, end_ms, "…", 0.9)

    transcript = Transcript(
        (
            turn(1, "caller", 0, 1_100),  # most of it before, 100 ms into the turn
            turn(2, "agent", 1_000, 4_000),  # the other side
            turn(3, "caller", 1_200, 2_000),  # first half
            turn(4, "caller", 2_400, 9_000),  # second half, run on into the next turn
        ),
        10_000,
        "en",
    )
    assert heard_as(RenderedTurn("caller", "…", 1_000, 4_000), transcript) == frozenset({3, 4})
    assert heard_as(RenderedTurn("caller", "…", 9_100, 9_900), transcript) == frozenset()
