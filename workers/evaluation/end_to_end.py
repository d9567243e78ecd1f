"""From audio to records: the same calls once heard and once read clean, so that the loss is the recogniser's."""

from __future__ import annotations

import time
from collections.abc import Sequence

from analytics.evaluation import Bootstrap, EvaluatedCall
from analytics.evaluation.calls import fields_of
from analytics.simulator import SimulatedCall
from analytics.simulator.speech.render import RenderedTurn
from analytics.transcript import Transcript, Turn
from inference.diffusion.request import CallRequest
from workers.evaluation.speech import HeardRecording
from workers.evaluation.text import (
    BOOTSTRAP_SEED,
    Decode,
    DecodedSet,
    SetReport,
    collect,
    decode_set,
    report_on,
)
from workers.evaluation.text_sets import built_in_branches, fact_texts

MIN_OVERLAP = 0.5  # of the shorter of two turns: less is the padding of voice activity


def compare_audio_with_text(heard: Sequence[HeardRecording], decode: Decode) -> list[SetReport]:
    """Three reports over calls that were spoken: read clean, heard, and by how much what was heard differs."""
    calls = [recording.call for recording in heard]
    known = [call for call in calls if call is not None]
    if len(known) != len(calls):
        raise ValueError("a recording without its call has no records to compare with")
    text = decode_set(known, decode)
    audio = decode_heard(heard, known, decode)
    bootstrap = Bootstrap(len(known), seed=BOOTSTRAP_SEED)
    from_text, from_audio = text.measures(), audio.measures()
    differences = {
        name: bootstrap.difference(from_audio[name], from_text[name])
        for name in from_text
        if name in from_audio
    }
    return [
        report_on("clean text", "the words as they were spoken", text),
        report_on("audio", "the words as they were heard", audio),
        SetReport(
            "difference",
            "audio against clean text",
            len(known),
            audio.seconds - text.seconds,
            differences,
        ),
    ]


def decode_heard(
    heard: Sequence[HeardRecording], calls: Sequence[SimulatedCall], decode: Decode
) -> DecodedSet:
    """Records of transcribed calls; a call in which nothing was heard gets none, as in the service."""
    requests = [
        CallRequest(call.id, recording.transcript.render(), built_in_branches())
        for call, recording in zip(calls, heard, strict=True)
        if not recording.transcript.is_empty
    ]
    started = time.perf_counter()
    answers = collect([call.id for call in calls], decode(requests))
    seconds = time.perf_counter() - started
    evaluated = tuple(
        EvaluatedCall(
            expected=call.records,
            found={name: answer.value for name, answer in found.items()},
            turns=tuple(turn.text for turn in recording.transcript.turns),
            facts=(*fact_texts(call), *(turn.text for turn in recording.turns)),
            supporting_turns=_supporting_turns(call, recording),
        )
        for call, recording, found in zip(calls, heard, answers, strict=True)
    )
    return DecodedSet(evaluated, answers, seconds)


def _supporting_turns(
    call: SimulatedCall, recording: HeardRecording
) -> dict[tuple[str, str], frozenset[int]]:
    return {
        (scorecard, name): frozenset()
        if number is None
        else heard_as(recording.turns[number - 1], recording.transcript)
        for scorecard, name in fields_of("evidence")
        for number in [call.records[scorecard][name]]
    }


def heard_as(spoken: RenderedTurn, transcript: Transcript) -> frozenset[int]:
    """Numbers of the turns in which a spoken turn was heard: the same speaker at the same time."""
    return frozenset(
        turn.number
        for turn in transcript.turns
        if turn.role == spoken.role and _overlap(spoken, turn) >= MIN_OVERLAP
    )


def _overlap(spoken: RenderedTurn, turn: Turn) -> float:
    """Shared time as a share of the shorter of the two."""
    shared = min(spoken.end_ms, turn.end_ms) - max(spoken.start_ms, turn.start_ms)
    shorter = min(spoken.end_ms - spoken.start_ms, turn.end_ms - turn.start_ms)
    return shared / max(shorter, 1)
