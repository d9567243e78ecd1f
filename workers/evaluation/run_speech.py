"""The parts of an evaluation that are heard: the speech sets, and from audio to records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context

from analytics.simulator.speech.espeak import SpeechEngineError
from workers.evaluation.decoders import Decoder
from workers.evaluation.end_to_end import compare_audio_with_text
from workers.evaluation.run import Tell
from workers.evaluation.speech import HeardRecording, Transcribe, hear, report_on_speech
from workers.evaluation.speech_sets import KNOWN_SET, SPEECH_SETS, SpeechSet
from workers.evaluation.text import SetReport

LoadRecognizer = Callable[[], Transcribe]
"""Loads a recogniser; picklable when several processes are to hear."""

HearSet = Callable[[SpeechSet], list[HeardRecording]]

_PARTS_PER_PROCESS = 4  # of a set: recordings differ in length, and short parts even that out


@dataclass(slots=True)
class HeardSets:
    """What was heard, by set, and the sets for which a voice was missing, with the reason."""

    heard: dict[str, list[HeardRecording]] = field(default_factory=dict)
    reports: list[SetReport] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def run_speech(
    load: LoadRecognizer,
    *,
    num_calls: int,
    seed: int,
    tell: Tell,
    speech_sets: Sequence[SpeechSet] = SPEECH_SETS,
    processes: int = 1,
) -> HeardSets:
    """Speak, hear and measure every set. A set whose voices are not installed is left out, with the reason kept."""
    result = HeardSets()
    with _hearing(load, speech_sets, num_calls, seed, processes) as hear_set:
        for speech_set in speech_sets:
            tell(f"{speech_set.name}: speaking and hearing {speech_set.description}")
            try:
                heard = hear_set(speech_set)
            except SpeechEngineError as error:
                result.left_out[speech_set.name] = str(error)
                continue
            result.heard[speech_set.name] = heard
            report = report_on_speech(speech_set.name, speech_set.description, heard)
            result.reports.append(report)
    return result


@contextmanager
def _hearing(
    load: LoadRecognizer,
    speech_sets: Sequence[SpeechSet],
    num_calls: int,
    seed: int,
    processes: int,
) -> Iterator[HearSet]:
    """How a set is heard: in this process, or by several that start on all sets at once."""
    if processes == 1:
        transcribe = load()
        yield lambda speech_set: [
            hear(recording, transcribe) for recording in speech_set.recordings(num_calls, seed)
        ]
        return
    num_parts = min(num_calls, _PARTS_PER_PROCESS * processes)
    # Spawned: speech engines and models keep threads and global state that a fork would share.
    with ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=_Hearer.start, initargs=(load,)
    ) as pool:
        parts: dict[str, list[Future[list[HeardRecording]]]] = {
            speech_set.name: [
                pool.submit(_Hearer.part, speech_set, num_calls, seed, part, num_parts)
                for part in range(num_parts)
            ]
            for speech_set in speech_sets
        }

        def hear_set(speech_set: SpeechSet) -> list[HeardRecording]:
            heard = [part.result() for part in parts[speech_set.name]]
            return [heard[i % num_parts][i // num_parts] for i in range(sum(map(len, heard)))]

        yield hear_set


class _Hearer:
    """What a process that hears keeps between parts: the loaded recogniser."""

    transcribe: Transcribe

    @classmethod
    def start(cls, load: LoadRecognizer) -> None:
        cls.transcribe = staticmethod(load())

    @classmethod
    def part(
        cls, speech_set: SpeechSet, num_calls: int, seed: int, part: int, num_parts: int
    ) -> list[HeardRecording]:
        recordings = speech_set.recordings(num_calls, seed, part=part, num_parts=num_parts)
        return [hear(recording, cls.transcribe) for recording in recordings]


def run_end_to_end(
    decoder: Decoder, sets: HeardSets, *, threshold: float, tell: Tell
) -> list[SetReport]:
    """Records of the calls in known voices, from audio and from clean text; nothing when they could not be spoken."""
    heard = sets.heard.get(KNOWN_SET.name, [])
    if not heard:
        return []
    tell(f"end to end: {len(heard):,} calls from audio, and the same from clean text")
    return compare_audio_with_text(heard, decoder.at(threshold))
