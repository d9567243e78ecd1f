"""The parts of an evaluation that are heard: the speech sets, and from audio to records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from analytics.simulator.speech.espeak import SpeechEngineError
from workers.evaluation.decoders import Decoder
from workers.evaluation.end_to_end import compare_audio_with_text
from workers.evaluation.run import Tell
from workers.evaluation.speech import HeardRecording, Transcribe, hear, report_on_speech
from workers.evaluation.speech_sets import KNOWN_VOICES, SPEECH_SETS, SpeechSet
from workers.evaluation.text import SetReport


@dataclass(slots=True)
class HeardSets:
    """What was heard, by set, and the sets for which a voice was missing, with the reason."""

    heard: dict[str, list[HeardRecording]] = field(default_factory=dict)
    reports: list[SetReport] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def run_speech(
    transcribe: Transcribe,
    *,
    num_calls: int,
    seed: int,
    tell: Tell,
    speech_sets: Sequence[SpeechSet] = SPEECH_SETS,
) -> HeardSets:
    """Speak, hear and measure every set. A set whose voices are not installed is left out, with the reason kept."""
    result = HeardSets()
    for speech_set in speech_sets:
        tell(f"{speech_set.name}: speaking and hearing {speech_set.description}")
        try:
            heard = [
                hear(recording, transcribe) for recording in speech_set.recordings(num_calls, seed)
            ]
        except SpeechEngineError as error:
            result.left_out[speech_set.name] = str(error)
            continue
        result.heard[speech_set.name] = heard
        report = report_on_speech(speech_set.name, speech_set.description, heard)
        result.reports.append(report)
    return result


def run_end_to_end(
    decoder: Decoder, sets: HeardSets, *, threshold: float, tell: Tell
) -> list[SetReport]:
    """Records of the calls in known voices, from audio and from clean text; nothing when they could not be spoken."""
    heard = sets.heard.get(KNOWN_VOICES.name, [])
    if not heard:
        return []
    tell(f"end to end: {len(heard):,} calls from audio, and the same from clean text")
    return compare_audio_with_text(heard, decoder.at(threshold))
