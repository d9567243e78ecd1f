"""The speech a recogniser learns from and is tested on: which text, in which voice.

Texts of calls alone teach a recogniser the calls. So calls are a good quarter of the corpus; three tenths are calls cut
up and mixed (splices, changed words), and the rest is open text, which is heard worst.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from analytics.simulator.open_text import sentences, vocabulary
from analytics.simulator.patterns import Split
from analytics.simulator.speech.espeak import SpeechEngineError
from analytics.simulator.speech.synthesis import TELEPHONE_RATE, speak_written
from analytics.simulator.speech.voices import TRAINING_VOICES, Voice

CallTexts = Callable[[int, Split], Iterator[str]]

_CALL_SHARE = 0.28
_MIXED_SHARE = 0.3
_LONGEST_MS = 24_000
_MEMORY = 4_000


@dataclass(frozen=True, slots=True)
class SpokenUtterance:
    """One utterance: int16 samples [n] at 8 kHz, its written text, the words said, and the voice's label."""

    samples: np.ndarray
    text: str
    spoken: str
    voice: str


def _sentence(words: list[str]) -> str:
    """Words as one written sentence: a capital in front and a mark at the end."""
    text = " ".join(words).strip(" ,")
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else text + "."


def splice(first: list[str], second: list[str], rng: random.Random) -> str:
    """The head of one utterance with the tail of another, never more than 24 words."""
    head = first[: rng.randint(1, min(12, len(first)))]
    start = rng.randint(1, max(1, len(second) - 2))
    return _sentence([*head[:-1], head[-1].rstrip(".?!"), *second[start : start + 12]])


def mutate(words: list[str], rng: random.Random) -> str:
    """An utterance with a quarter of its words replaced, dropped, doubled or swapped."""
    changed: list[str] = []
    for word in words[:24]:
        draw = rng.random()
        if draw < 0.16:
            changed.append(rng.choice(vocabulary()))
        elif draw < 0.2:
            continue
        elif draw < 0.23:
            changed += [word, rng.choice(vocabulary())]
        else:
            changed.append(word)
        if draw > 0.97 and len(changed) > 1:
            changed[-1], changed[-2] = changed[-2], changed[-1]
    return _sentence(changed or words[:3])


def training_texts(seed: int, call_texts: CallTexts) -> Iterator[str]:
    """An endless stream of written utterances: calls, calls cut up, open text."""
    rng = random.Random(f"training texts {seed}")
    calls = call_texts(seed, "train")
    open_sentences = sentences(seed, split="train")
    memory: list[list[str]] = [next(calls).split() for _ in range(200)]
    while True:
        draw = rng.random()
        if draw < _CALL_SHARE:
            text = next(calls)
            # Old utterances give way at random, so that splices meet far beyond one call.
            if len(memory) < _MEMORY:
                memory.append(text.split())
            else:
                memory[rng.randrange(_MEMORY)] = text.split()
        elif draw < _CALL_SHARE + _MIXED_SHARE * 0.6:
            text = splice(rng.choice(memory), rng.choice(memory), rng)
        elif draw < _CALL_SHARE + _MIXED_SHARE:
            text = mutate(rng.choice(memory), rng)
        else:
            text = next(open_sentences)
        yield text


def speak_all(
    texts: Iterator[str], voices: tuple[Voice, ...], seed: int
) -> Iterator[SpokenUtterance]:
    """Speak each text in a voice drawn by weight. Texts that give no sound or last over 24 s are left out."""
    rng = random.Random(f"voices {seed}")
    weights = [voice.weight for voice in voices]
    for text in texts:
        voice = rng.choices(voices, weights)[0]
        try:
            samples, spoken = speak_written(text, voice, rng)
        except SpeechEngineError:
            if not any(character.isalnum() for character in text):
                continue
            raise
        if len(samples) * 1000 <= _LONGEST_MS * TELEPHONE_RATE:
            yield SpokenUtterance((samples * 32_767).astype(np.int16), text, spoken, voice.label)


def training_speech(seed: int, call_texts: CallTexts) -> Iterator[SpokenUtterance]:
    """An endless stream of training speech; every seed gives another one."""
    return speak_all(training_texts(seed, call_texts), TRAINING_VOICES, seed)
