"""Planning of training windows: which utterances go where, and what the decoder should write.

A window is what faster-whisper hands the model: up to 30 s cut from a file, or one clip. Utterances of the pool are
laid out with silences; half of the windows carry timestamps.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch

from inference.training.asr.pool import PoolView
from inference.training.asr.telephone import SOUNDS, Placement
from inference.training.asr.tokenizer import SpecialIds

SAMPLE_RATE = 8_000
IGNORED = -100
CTC_ALPHABET = " abcdefghijklmnopqrstuvwxyz'"
MAX_TARGET = 448
_MAX_PROMPT = 223
_FRAME = 80  # samples of one mel frame at 8 kHz
_LETTERS = np.zeros(128, dtype=np.int64)  # by ASCII code; 0 for what is not spelled
_LETTERS[[ord(letter) for letter in CTC_ALPHABET]] = np.arange(1, len(CTC_ALPHABET) + 1)


@dataclass(frozen=True, slots=True)
class WindowMix:
    """Shares of window kinds. What is left after the named kinds is stretches of a file."""

    empty: float = 0.05
    clip: float = 0.25
    timestamps: float = 0.5
    prompt: float = 0.2
    one_voice: float = 0.7
    sound: float = 0.75  # of the empty windows hold music, a ringing tone or loud noise
    sound_between: float = 0.12  # of the windows with speech have it in their silences
    speed_changed: float = 0.5
    input_noise: float = 0.12


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's windows, on the host; int64 unless said."""

    placement: Placement
    inputs: torch.Tensor  # [windows, n] decoder input
    targets: torch.Tensor  # [windows, n] what follows each input, IGNORED where nothing is learned
    frames: torch.Tensor  # [windows] real mel frames
    learned: torch.Tensor  # [k] flat positions of the targets that count
    sounds: torch.Tensor  # [windows] what fills silences, an index into telephone.SOUNDS
    headroom: torch.Tensor  # float32 [windows]: how much louder the file is elsewhere, log10 power
    letters: torch.Tensor  # [sum of letter_counts] CTC targets, 0 is the blank
    letter_counts: torch.Tensor  # [windows]


@dataclass(slots=True)
class _Window:
    """One window in the making. Times are samples."""

    pieces: list[tuple[int, int, int, float]]  # utterance, start, samples, speed
    real: int
    timed: bool
    cut: bool


class WindowPlanner:
    """Draws batches from a pool view; all randomness from one seed."""

    def __init__(self, ids: SpecialIds, seed: int, mix: WindowMix | None = None) -> None:
        self._ids = ids
        self._mix = mix or WindowMix()
        self._rng = random.Random(seed)

    def _gap(self) -> int:
        draw = self._rng.random()
        low, high = (0.1, 0.8) if draw < 0.68 else (0.8, 3.0) if draw < 0.93 else (3.0, 9.0)
        return int(self._rng.uniform(low, high) * SAMPLE_RATE)

    def _pick(self, view: PoolView, voice: list[int] | None) -> int:
        if voice is None:
            return self._rng.randrange(len(view.starts))
        return self._rng.choice(voice)

    def _speed(self) -> float:
        if self._rng.random() >= self._mix.speed_changed:
            return 1.0
        # Formants move as well, and with them the speaker: grown voices lie about so far apart.
        return self._rng.uniform(0.87, 1.15)

    def _lay_out(self, view: PoolView, samples: int) -> _Window:
        """Choose utterances and their places for one window of at most `samples`."""
        rng, mix = self._rng, self._mix
        kind = rng.random()
        timed = rng.random() < mix.timestamps
        if kind < mix.empty:
            return _Window([], int(samples * rng.uniform(0.1, 1.0)), timed, False)
        voice = None
        if rng.random() < mix.one_voice:
            # By their share of the speech: drawn evenly, many accents of one engine would crowd out the few of another.
            voice = rng.choices(view.by_voice, [len(numbers) for numbers in view.by_voice])[0]
        clip = kind < mix.empty + mix.clip
        lead = rng.uniform(0, 0.6) if clip or rng.random() < 0.7 else rng.uniform(0.6, 6.0)
        window = _Window([], 0, timed, False)
        at = int(lead * SAMPLE_RATE)
        most = rng.choice((1, 1, 1, 2, 3)) if clip else 99
        while len(window.pieces) < most:
            utterance, speed = self._pick(view, voice), self._speed()
            length = int(view.lengths[utterance] / speed)
            if at + length > samples:
                # Only a file goes on behind its window; a clip or a window without times ends with its last utterance.
                if timed and not clip and window.pieces and samples - at > SAMPLE_RATE // 4:
                    window.pieces.append((utterance, at, samples - at, speed))
                    window.cut = True
                if window.pieces:
                    break
                # Nothing fits behind a long lead: move up, and draw until an utterance is short enough.
                at = min(at, SAMPLE_RATE // 4)
                continue
            window.pieces.append((utterance, at, length, speed))
            at += length + self._gap()
        last = window.pieces[-1]
        ends = last[1] + last[2]
        tail = int(rng.uniform(0.05, 0.7) * SAMPLE_RATE) if clip else self._gap()
        whole = not clip and rng.random() < 0.6
        window.real = samples if window.cut or whole else min(samples, ends + tail)
        return window

    def _timestamp(self, samples: int, first: bool) -> int:
        # faster-whisper never lets the first timestamp of a window pass 1.0 s.
        seconds = min(samples / SAMPLE_RATE, 1.0 if first else 30.0)
        return self._ids.first_timestamp + round(seconds * 50)

    def _write(self, view: PoolView, window: _Window) -> list[int]:
        """The tokens after `<|startoftranscript|>`."""
        ids = self._ids
        if not window.pieces:
            after_start = ids.first_timestamp if window.timed else ids.no_timestamps
            return [after_start, ids.end]
        if not window.timed:
            text = [token for piece in window.pieces for token in view.tokens[piece[0]]]
            return [ids.no_timestamps, *text, ids.end]
        tokens: list[int] = []
        for index, (utterance, start, length, _) in enumerate(window.pieces):
            tokens.append(self._timestamp(start, index == 0))
            if window.cut and index == len(window.pieces) - 1:
                break
            tokens += view.tokens[utterance]
            tokens.append(self._timestamp(start + length, False))
        return [*tokens, ids.end]

    def _prompt(self, view: PoolView, samples: int) -> list[int]:
        """`<|startofprev|>` and earlier text, unrelated: the model must take it without copying it."""
        if self._rng.random() >= self._mix.prompt:
            return []
        timed = self._rng.random() < 0.5
        # One long prompt widens the whole batch: short windows do without.
        longest = (40, 100, _MAX_PROMPT) if samples >= 30 * SAMPLE_RATE else (30,)
        limit = self._rng.randint(5, self._rng.choice(longest))
        tokens: list[int] = []
        at = 0
        while len(tokens) < limit:
            text = view.tokens[self._pick(view, None)]
            if timed:
                end = at + self._rng.randint(50, 300)
                stamps = [self._ids.first_timestamp + min(time, 1_500) for time in (at, end)]
                tokens += [stamps[0], *text, stamps[1]]
                at = end
            else:
                tokens += text
        return [self._ids.previous, *tokens[-limit:]]

    def _inputs_and_targets(
        self, prompt: list[int], written: list[int], empty: bool
    ) -> tuple[list[int], list[int]]:
        """Decoder input (with some text tokens replaced) and targets."""
        ids, rng = self._ids, self._rng
        inputs = [*prompt, ids.start, *written[:-1]]
        targets = [IGNORED] * len(prompt) + written
        if empty and rng.random() < 0.8:
            # The probability read here is faster-whisper's no_speech_prob.
            targets[len(prompt)] = ids.no_speech
        for index in range(len(prompt) + 1, len(inputs)):
            if inputs[index] < ids.end and rng.random() < self._mix.input_noise:
                inputs[index] = rng.randrange(ids.end)
        return inputs[:MAX_TARGET], targets[:MAX_TARGET]

    def _letters(self, view: PoolView, window: _Window) -> np.ndarray:
        """What the encoder should spell, without blanks: int64, at most two letters for three encoder frames."""
        spoken = ""
        for index, (utterance, _, length, speed) in enumerate(window.pieces):
            words = view.spoken[utterance]
            if window.cut and index == len(window.pieces) - 1:
                share = length * speed / float(view.lengths[utterance])
                words = words[: int(len(words) * share)]
            spoken += words + " "
        codes = np.frombuffer(spoken.lower().encode("ascii", "ignore"), dtype=np.uint8)
        letters = _LETTERS[codes]
        return letters[letters > 0][: window.real // _FRAME // 2 * 2 // 3]

    def batch(self, view: PoolView, num_windows: int, seconds: float) -> Batch:
        """Plan `num_windows` windows of at most `seconds`."""
        samples = int(seconds * SAMPLE_RATE)
        windows = [self._lay_out(view, samples) for _ in range(num_windows)]
        rows = [
            self._inputs_and_targets(
                self._prompt(view, samples), self._write(view, window), not window.pieces
            )
            for window in windows
        ]
        longest = -(-max(len(inputs) for inputs, _ in rows) // 8) * 8
        letters = [self._letters(view, window) for window in windows]
        targets = _padded([row for _, row in rows], longest, IGNORED)
        return Batch(
            placement=self._placement(view, windows),
            inputs=_padded([inputs for inputs, _ in rows], longest, self._ids.end),
            targets=targets,
            learned=(targets.flatten() != IGNORED).nonzero().flatten(),
            frames=torch.tensor([max(1, window.real // _FRAME) for window in windows]),
            sounds=torch.tensor([self._sound(window) for window in windows]),
            headroom=torch.tensor(
                [max(0.0, self._rng.uniform(-1.0, 1.0)) for _ in windows], dtype=torch.float32
            ),
            letters=torch.from_numpy(np.concatenate(letters)),
            letter_counts=torch.tensor([len(row) for row in letters]),
        )

    def _sound(self, window: _Window) -> int:
        chance = self._mix.sound_between if window.pieces else self._mix.sound
        return self._rng.randrange(1, len(SOUNDS)) if self._rng.random() < chance else 0

    def _placement(self, view: PoolView, windows: list[_Window]) -> Placement:
        rows = [
            (i_window, start, int(view.starts[utterance]), length, int(view.lengths[utterance]))
            for i_window, window in enumerate(windows)
            for utterance, start, length, _ in window.pieces
        ]
        window, start, source, length, source_length = (
            torch.tensor(rows, dtype=torch.long).reshape(-1, 5).unbind(1)
        )
        speeds = [piece[3] for one in windows for piece in one.pieces]
        gains = [10 ** (self._rng.uniform(-4, 4) / 20) for _ in speeds]
        return Placement(
            window=window,
            start=start,
            source=source,
            length=length,
            source_length=source_length,
            total=sum(row[3] for row in rows),
            speed=torch.tensor(speeds, dtype=torch.float32),
            gain=torch.tensor(gains, dtype=torch.float32),
        )


def _padded(rows: list[list[int]], length: int, fill: int) -> torch.Tensor:
    padded = np.full((len(rows), length), fill, dtype=np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return torch.from_numpy(padded)
