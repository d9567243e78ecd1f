"""Training the embedded recogniser on the simulator's speech: where the two rooms meet."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import torch

from analytics.simulator import simulate
from analytics.simulator.open_text import sentences
from analytics.simulator.patterns import Split
from analytics.simulator.speech.corpus import (
    SpokenUtterance,
    speak_all,
    training_speech,
    training_texts,
)
from analytics.simulator.speech.voices import (
    HELDOUT_ESPEAK_VOICES,
    HELDOUT_FLITE_VOICES,
    KNOWN_VOICES,
)
from inference.training.asr.config import AsrTrainingConfig
from inference.training.asr.train import train_asr

_DEV_UTTERANCES = 96
SPEAKING_SHARE = 0.7  # of the run: what is spoken later would be heard too seldom to matter


def call_texts(seed: int, split: Split) -> Iterator[str]:
    """Every turn of an endless stream of simulated calls, as written."""
    for call in simulate(seed, split=split):
        for turn in call.spoken:
            yield turn.text


def speech(seed: int) -> Iterator[SpokenUtterance]:
    """Training speech for one worker process."""
    return training_speech(seed, call_texts)


def texts(seed: int) -> Iterator[str]:
    """Training texts, for the tokenizer."""
    return training_texts(seed, call_texts)


def dev_sets() -> Mapping[str, Sequence[SpokenUtterance]]:
    """Small sets to watch while training; seeds no worker uses."""
    seed = 2_147_483_647

    def spread(stream: Iterator[str]) -> Iterator[str]:
        # Turns of one call resemble each other: take one in seven.
        return islice(stream, 0, None, 7)

    known, held = spread(call_texts(seed, "train")), spread(call_texts(seed, "heldout"))
    open_text = sentences(seed, split="heldout")
    plans = {
        "known": (known, KNOWN_VOICES),
        "unseen espeak": (known, HELDOUT_ESPEAK_VOICES),
        "unseen flite": (known, HELDOUT_FLITE_VOICES),
        "heldout wording": (held, KNOWN_VOICES),
        "open text": (open_text, KNOWN_VOICES),
    }
    return {
        name: list(islice(speak_all(stream, voices, seed), _DEV_UTTERANCES))
        for name, (stream, voices) in plans.items()
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(prog="aftercall train asr", description=__doc__)
    options.add_argument(
        "work", type=Path, help="where speech, tokenizer and the state of a killed run are kept"
    )
    options.add_argument("output", type=Path, help="where the weights and the curve go")
    options.add_argument("--seconds", type=float, default=590.0, help="wall clock of the run")
    options.add_argument(
        "--from",
        dest="start_from",
        type=Path,
        metavar="CHECKPOINT",
        help="go on from these weights: a trained directory, or one converted to CTranslate2",
    )
    options.add_argument("--seed", type=int, default=1)
    options.add_argument(
        "--processes",
        type=int,
        help="that speak; all processors but two if not given; 0: learn from what WORK/pool holds",
    )
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Train within the time given, on the GPU if there is one."""
    arguments = parser().parse_args(argv)
    config = AsrTrainingConfig(
        work=arguments.work,
        output=arguments.output,
        max_seconds=arguments.seconds,
        seed=arguments.seed,
        device="cuda" if torch.cuda.is_available() else "cpu",
        synthesis_processes=max(1, (os.cpu_count() or 3) - 2)
        if arguments.processes is None
        else arguments.processes,
        synthesis_seconds=SPEAKING_SHARE * arguments.seconds,
    )
    if arguments.start_from is not None:
        config = config.going_on_from(arguments.start_from)
    train_asr(config, speech, texts, dev_sets)


if __name__ == "__main__":
    main()
