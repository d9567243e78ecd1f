"""What was heard on each channel as the turns of a transcript."""

from __future__ import annotations

from analytics.transcript import Role, Transcript, Turn
from inference.speech import Recording, Utterance


def to_transcript(
    recording: Recording, utterances: list[Utterance], agent_channel: int, language: str
) -> Transcript:
    """Number the utterances as turns. With one channel nobody can tell who speaks: the role is unknown."""

    def role(channel: int) -> Role:
        if recording.audio.shape[0] == 1:
            return "unknown"
        return "agent" if channel == agent_channel else "caller"

    turns = tuple(
        Turn(number, role(u.channel), u.start_ms, u.end_ms, u.text, u.confidence)
        for number, u in enumerate(utterances, start=1)
    )
    return Transcript(turns, recording.duration_ms, language)
