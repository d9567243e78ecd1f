"""Where a channel speaks: Silero's probabilities read forwards and backwards, less what leaks over from other channels.

faster-whisper runs Silero forwards and thresholds it. On a telephone line that loses beginnings: the model needs some
speech before it believes, so "Hi" and "You're" come out silent, and with some voices whole turns. Read backwards it
starts from the other end, where it believes already. Of both readings the surer one counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from faster_whisper.vad import SileroVADModel, get_vad_model

from inference.speech.media import SAMPLE_RATE

FRAME: Final = 512  # samples: what Silero judges at a time, 32 ms
FRAME_S: Final = FRAME / SAMPLE_RATE

# Silero's usual 0.5 misses first words on a telephone line; of the surer reading, silence and noise stay below 0.15.
_SPEECH: Final = 0.3
# Speech, once believed, goes on down to here: faint onsets and endings lie between this and 0.3.
_STILL_SPEECH: Final = 0.12
# Backwards, hold music passes for speech now and then; forwards it stays below 0.07, and the faintest speech that was
# met comes to 0.11. So the backward reading counts within so many frames of some forward belief.
_HINT: Final = 0.08
_HINT_FRAMES: Final = round(1.0 / FRAME_S)
# Silero loses some voices in mid-sentence. Sound as loud as the channel's speech, and clear of its background, goes on
# being speech for so long on either side: a word or two, and no more of the hold music that follows one.
_LOUD_BELOW_SPEECH_DB: Final = (
    12.0  # unstressed syllables lie some 10 dB under the median of believed frames
)
_LOUD_ABOVE_FLOOR_DB: Final = 12.0
_FLOOR_PERCENTILE: Final = 10  # a channel of a call is silent for more than a tenth of its time
_AUDIBLE_DB: Final = (
    3.0  # above the floor; Silero goes on believing for a second after a leak ends in noise
)
_REACH_FRAMES: Final = round(0.7 / FRAME_S)
_BRIDGE_FRAMES: Final = round(0.5 / FRAME_S)  # pauses up to half a second lie within a stretch
_PAD_FRAMES: Final = round(
    0.2 / FRAME_S
)  # a stop's closure and a fricative's tail, which no reading believes
_SHORTEST_FRAMES: Final = 3  # about 0.1 s believed: "yes" has five frames, a click one

_QUIETER_DB: Final = 18.0
"""A copy is at least so much quieter than what it copies. Lines part their directions by 25 dB and more, less a gain
of up to 6 dB a side; people on one call rarely lie 18 dB apart, and then the next test decides."""
_LIKENESS: Final = 0.6
"""Correlation of the two levels over time (in dB) from which one is a copy of the other. Leaks 38 dB down, just above
the noise, have 0.8 and more; two people who talk at once stay below 0.4."""
_BURIED_DB: Final = 6.0
"""Nearer than this to the channel's own noise nothing can be made out, so beside a far louder voice it is no speech;
Silero takes a leak for speech even level with the noise, where likeness has drowned."""
_COPY_LAG_FRAMES: Final = 8  # a leak is immediate; an echo comes back within a quarter of a second
_LEVEL_FRAMES: Final = 5  # levels are smoothed over 160 ms, about a syllable
_HOLD_FRAMES: Final = 8  # loudness is compared as held for a quarter of a second: words have gaps
_SHORTEST_COPY_FRAMES: Final = 12  # 0.4 s: of less, likeness says nothing


@dataclass(frozen=True, slots=True)
class Stretch:
    """Frames [first, end) in which a channel speaks."""

    first: int
    end: int


@cache
def _silero() -> SileroVADModel:
    return get_vad_model()


def _spread(values: np.ndarray, frames: int) -> np.ndarray:
    """The highest of `values` (any dtype, [frames]) within so many frames before and behind each."""
    padded = np.pad(values, frames, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * frames + 1).max(1)


def speech_probability(samples: np.ndarray) -> np.ndarray:
    """float32 [frames]: for each 32 ms of `samples` (float32 [n], 16 kHz) how surely somebody speaks."""
    whole = np.pad(samples, (0, -len(samples) % FRAME))
    if not len(whole):
        return np.zeros(0, np.float32)
    silero = _silero()
    forwards = silero(whole).reshape(-1)
    backwards = silero(np.ascontiguousarray(whole[::-1])).reshape(-1)[::-1]
    return surer(forwards, backwards)


def surer(forwards: np.ndarray, backwards: np.ndarray) -> np.ndarray:
    """Of two readings (float32 [frames]) the higher one, where the forward one has at least a hint nearby."""
    hinted = _spread(forwards >= _HINT, _HINT_FRAMES)
    probability: np.ndarray = np.where(hinted, np.maximum(forwards, backwards), forwards)
    return probability


def levels_db(samples: np.ndarray) -> np.ndarray:
    """float64 [frames]: power of each frame in dB of full scale, smoothed over 160 ms, never under -90."""
    whole = np.pad(samples, (0, -len(samples) % FRAME)).astype(np.float64)
    power = np.square(whole).reshape(-1, FRAME).mean(1)
    if not len(power):
        return power
    smooth = np.convolve(power, np.full(_LEVEL_FRAMES, 1 / _LEVEL_FRAMES), mode="same")
    return 10 * np.log10(np.maximum(smooth, 1e-9))


def floor(own_db: np.ndarray) -> float:
    """The level of a channel's background."""
    return float(np.percentile(own_db, _FLOOR_PERCENTILE))


def runs(flags: np.ndarray) -> list[Stretch]:
    """The runs of True in `flags` (bool [frames])."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return [
        Stretch(int(first), int(end)) for first, end in zip(edges[::2], edges[1::2], strict=True)
    ]


def copied(own_db: np.ndarray, other_db: np.ndarray) -> np.ndarray:
    """bool [frames]: where a channel with levels `own_db` is a quiet copy of another with `other_db`.

    A run of frames that lies well below the other channel is a copy where it drowns in the channel's noise, or when its
    level rises and falls with the other's. A quiet person beside a silent channel is no copy, nor is one who talks
    while the other does.
    """
    if not len(own_db):
        return np.zeros(0, dtype=bool)
    own_held = _spread(own_db, _HOLD_FRAMES)
    quieter = _spread(other_db, _HOLD_FRAMES) - own_held >= _QUIETER_DB
    found: np.ndarray = quieter & (own_held < floor(own_db) + _BURIED_DB)
    for run in runs(quieter):
        length = run.end - run.first
        if length >= _SHORTEST_COPY_FRAMES and _likeness(own_db, other_db, run) >= _LIKENESS:
            found[run.first : run.end] = True
    return found


def _likeness(own_db: np.ndarray, other_db: np.ndarray, run: Stretch) -> float:
    """The highest correlation of the levels in a run with the other channel's up to a quarter of a second earlier."""
    own = own_db[run.first : run.end]
    best = 0.0
    for lag in range(min(_COPY_LAG_FRAMES, run.first) + 1):
        other = other_db[run.first - lag : run.end - lag]
        spread = own.std() * other.std()
        if spread > 0:
            best = max(best, float(((own - own.mean()) * (other - other.mean())).mean() / spread))
    return best


def _goes_on(probability: np.ndarray, own_db: np.ndarray) -> np.ndarray:
    """bool [frames]: believed, or nearly, or as loud as speech and not far from what is believed."""
    sure = probability >= _SPEECH
    if not sure.any():
        return sure
    speech_db, floor_db = np.median(own_db[sure]), floor(own_db)
    loud = own_db >= max(speech_db - _LOUD_BELOW_SPEECH_DB, floor_db + _LOUD_ABOVE_FLOOR_DB)
    goes_on: np.ndarray = (probability >= _STILL_SPEECH) | (loud & _spread(sure, _REACH_FRAMES))
    return goes_on


def stretches(probability: np.ndarray, own_db: np.ndarray, longest: int) -> list[Stretch]:
    """Stretches of speech, padded, apart from each other, each of at most `longest` frames.

    `own_db` are the channel's levels; frames that are copies of another channel come with probability 0.
    """
    if not len(probability):
        return []
    probability = np.where(own_db < floor(own_db) + _AUDIBLE_DB, 0, probability)
    bridged: list[Stretch] = []
    for run in runs(_goes_on(probability, own_db)):
        if bridged and run.first - bridged[-1].end <= _BRIDGE_FRAMES:
            bridged[-1] = Stretch(bridged[-1].first, run.end)
        else:
            bridged.append(run)
    sure = probability >= _SPEECH
    spoken = [one for one in bridged if sure[one.first : one.end].sum() >= _SHORTEST_FRAMES]
    cut = [part for one in spoken for part in _cut(one, probability, longest - 2 * _PAD_FRAMES)]
    return _padded(cut, len(probability))


def _cut(stretch: Stretch, probability: np.ndarray, longest: int) -> list[Stretch]:
    """Parts of at most `longest` frames, cut where speech is least sure in the second half of each."""
    parts = []
    first = stretch.first
    while stretch.end - first > longest:
        at = first + longest // 2
        end = at + int(np.argmin(probability[at : first + longest]))
        parts.append(Stretch(first, end))
        first = end
    return [*parts, Stretch(first, stretch.end)]


def _padded(found: list[Stretch], num_frames: int) -> list[Stretch]:
    """With a margin on both sides, half of the pause where two are close."""
    bounds = [0, *(one.end for one in found)], [*(one.first for one in found), num_frames]
    pauses = [end - start for start, end in zip(*bounds, strict=True)]
    return [
        Stretch(
            one.first - min(_PAD_FRAMES, before if i == 0 else before - before // 2),
            one.end + min(_PAD_FRAMES, after if i == len(found) - 1 else after // 2),
        )
        for i, (one, before, after) in enumerate(zip(found, pauses[:-1], pauses[1:], strict=True))
    ]
