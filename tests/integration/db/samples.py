"""Short ways to make calls, transcripts and scorecards."""

from __future__ import annotations

import hashlib
from itertools import count
from typing import Any

from sqlalchemy.orm import Session

from analytics.scorecards import BUILT_IN
from analytics.talk_metrics import measure
from analytics.transcript import Transcript, Turn
from db.repository import calls, scorecards, transcripts

TURNS = (
    Turn(1, "agent", 0, 2_000, "Thanks for calling, how can I help?", 0.9),
    Turn(2, "caller", 2_500, 6_000, "I would like to book a cut for Friday.", 0.8),
    Turn(3, "agent", 6_400, 9_000, "You are booked for Friday at nine.", 0.95),
)


_number = count(1)


def make_call(session: Session, **fields: object) -> int:
    """A new call with a readable recording of its own; `fields` go to NewCall."""
    name = f"call-{next(_number)}"
    values: dict[str, Any] = {"source": "tests", "external_id": name, **fields}
    recording = calls.NewRecording(uri=f"/{name}.wav", sha256=sha(name))
    return calls.ingest(session, calls.NewCall(**values), recording).call_id


def make_transcript(session: Session, call_id: int, turns: tuple[Turn, ...] = TURNS) -> int:
    """A transcript of the call's recording."""
    transcript = Transcript(turns, duration_ms=10_000, language="en")
    recording = calls.recordings_of(session, [call_id])[call_id]
    return transcripts.store_transcript(
        session,
        call_id=call_id,
        recording_id=recording.id,
        transcript=transcript,
        metrics=measure(transcript),
        fingerprint="asr-1",
        provenance={"asr": "tiny"},
        prompt_tokens=100,
    )


def promote_built_in(session: Session) -> dict[str, int]:
    """Register and promote the built-in scorecards; ids by name."""
    for card in BUILT_IN:
        scorecards.register(
            session,
            name=card.name,
            version=card.version,
            instructions=card.instructions,
            output_schema=card.schema,
            kind="builtin",
        )
        scorecards.promote(session, card.name, card.version)
    return {card.name: card.id for card in scorecards.promoted(session)}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
