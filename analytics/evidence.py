"""Evidence: the turn that a field of a record rests on, checked against the transcript and turned into times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from analytics.transcript import Transcript

TURN_SUFFIX = "_turn"
EvidenceStatus = Literal["supported", "no_turn", "unknown_turn"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where a field's value comes from. Times are null when no turn supports it."""

    field: str
    status: EvidenceStatus
    turn_number: int | None
    start_ms: int | None
    end_ms: int | None


def locate(record: Mapping[str, object], transcript: Transcript) -> list[Evidence]:
    """One Evidence for each `<field>_turn` in `record`.

    A turn that the transcript does not have is `unknown_turn`: the value stays, the claim of support does not.
    """
    return [
        _locate(name.removesuffix(TURN_SUFFIX), number, transcript)
        for name, number in record.items()
        if name.endswith(TURN_SUFFIX)
    ]


def _locate(field: str, number: object, transcript: Transcript) -> Evidence:
    if number is None:
        return Evidence(field, "no_turn", None, None, None)
    if not isinstance(number, int) or not 1 <= number <= len(transcript.turns):
        return Evidence(field, "unknown_turn", None, None, None)
    turn = transcript.turn(number)
    return Evidence(field, "supported", number, turn.start_ms, turn.end_ms)
