"""The speech sets: calls and open text spoken by the simulator's voices, and minutes in which nobody speaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal, Protocol

import numpy as np

from analytics.simulator import SimulatedCall
from analytics.simulator.open_text import sentences
from analytics.simulator.patterns import Split
from analytics.simulator.speech.line import coloured_noise, hold_music, telephone_band
from analytics.simulator.speech.render import RenderedTurn, Role, render_call
from analytics.simulator.speech.synthesis import TELEPHONE_RATE
from analytics.simulator.speech.voices import (
    HELDOUT_ESPEAK_VOICES,
    HELDOUT_FLITE_VOICES,
    KNOWN_VOICES,
    Voice,
)
from workers.evaluation.text_sets import EVALUATION_SEED, TextSet

OPEN_TEXT_TURNS: Final = 12  # sentences to a recording, as many as a call has turns
WORDLESS_SECONDS: Final = 60
WORDLESS_RECORDINGS: Final = 20


@dataclass(frozen=True, slots=True)
class SpokenRecording:
    """A recording with known truth: float32 [2, n] at 8 kHz, what is said in it, and the words of it that are names."""

    audio: np.ndarray
    turns: tuple[RenderedTurn, ...]
    names: tuple[str, ...] = ()
    call: SimulatedCall | None = None


class SpeechSet(Protocol):
    """A named source of recordings."""

    @property
    def name(self) -> str:
        """Short name, unique among the sets."""

    @property
    def description(self) -> str:
        """What is hard about it."""

    def recordings(
        self, num_calls: int, seed: int, *, part: int = 0, num_parts: int = 1
    ) -> Iterator[SpokenRecording]:
        """The set's first recordings, one at a time; of these every `num_parts`-th, from number `part` on.

        Raises SpeechEngineError when a voice is missing.
        """


@dataclass(frozen=True, slots=True)
class SpokenCalls:
    """Simulated calls in these voices."""

    name: str
    description: str
    voices: Sequence[Voice]
    split: Split = "train"

    def recordings(
        self, num_calls: int, seed: int = EVALUATION_SEED, *, part: int = 0, num_parts: int = 1
    ) -> Iterator[SpokenRecording]:
        """See SpeechSet. The same calls in every set of one split, so that voices can be compared."""
        calls = TextSet(self.name, self.description, split=self.split).calls(num_calls, seed)
        for i_call, call in islice(enumerate(calls), part, None, num_parts):
            turns = [(turn.role, turn.text) for turn in call.spoken]
            rendered = render_call(turns, seed + i_call, voices=self.voices)
            facts = call.facts
            names = (facts.caller, facts.agent, facts.person)
            yield SpokenRecording(rendered.audio, rendered.turns, names, call)


@dataclass(frozen=True, slots=True)
class SpokenOpenText:
    """Sentences on anything, from frames that training never saw, in these voices."""

    name: str
    description: str
    voices: Sequence[Voice]

    def recordings(
        self, num_calls: int, seed: int = EVALUATION_SEED, *, part: int = 0, num_parts: int = 1
    ) -> Iterator[SpokenRecording]:
        """See SpeechSet."""
        stream = sentences(seed, split="heldout")
        roles: tuple[Role, Role] = ("agent", "caller")
        for i_call in range(num_calls):
            turns = [
                (roles[i_turn % 2], text)
                for i_turn, text in enumerate(islice(stream, OPEN_TEXT_TURNS))
            ]
            if i_call % num_parts != part:
                continue
            rendered = render_call(turns, seed + i_call, voices=self.voices)
            yield SpokenRecording(rendered.audio, rendered.turns)


@dataclass(frozen=True, slots=True)
class Wordless:
    """A minute without a word on both channels: of a quiet line, of noise, or of hold music on the agent's channel."""

    name: Literal["silence", "noise", "music"]
    description: str

    def recordings(
        self, num_calls: int, seed: int = EVALUATION_SEED, *, part: int = 0, num_parts: int = 1
    ) -> Iterator[SpokenRecording]:
        """See SpeechSet; never more than `WORDLESS_RECORDINGS`."""
        random = np.random.default_rng(seed)
        num_samples = WORDLESS_SECONDS * TELEPHONE_RATE
        for i_recording in range(min(num_calls, WORDLESS_RECORDINGS)):
            # The first quiet line is digital silence; levels are dB of full scale.
            quiet_db = -120 if i_recording == 0 else random.uniform(-75, -55)
            level_db = random.uniform(-45, -25) if self.name == "noise" else quiet_db
            audio = np.stack(
                [coloured_noise(num_samples, random, random.uniform(0, 1)) for _ in range(2)]
            )
            audio *= 10 ** (level_db / 20)
            if self.name == "music":
                audio[0] += hold_music(num_samples, random) * 10 ** (random.uniform(-8, 6) / 20)
            if i_recording % num_parts != part:
                continue
            heard = np.stack([telephone_band(channel) for channel in audio])
            yield SpokenRecording(np.clip(heard, -1, 1), ())


KNOWN_SET: Final = SpokenCalls("known", "known voices, known wording", KNOWN_VOICES)
SPEECH_SETS: Final[tuple[SpeechSet, ...]] = (
    KNOWN_SET,
    SpokenCalls("new_espeak", "unseen espeak voices, known wording", HELDOUT_ESPEAK_VOICES),
    SpokenCalls("new_flite", "unseen flite voice, known wording", HELDOUT_FLITE_VOICES),
    SpokenCalls("heldout", "known voices, unseen wording", KNOWN_VOICES, split="heldout"),
    SpokenOpenText("open_text", "known voices, sentences on anything", KNOWN_VOICES),
    Wordless("silence", "a quiet line"),
    Wordless("noise", "line noise"),
    Wordless("music", "hold music"),
)
