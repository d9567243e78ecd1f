"""Training from scratch on a growing pool of synthetic speech, within a budget of wall-clock time: the run."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from typing import Any

import torch
from tokenizers import Tokenizer

from inference.training.asr.config import AsrTrainingConfig
from inference.training.asr.evaluate import word_error_rates
from inference.training.asr.export import save_checkpoint
from inference.training.asr.learner import Learner
from inference.training.asr.log import Curve
from inference.training.asr.pool import PoolWriters, Producer, SpeechPool, Spoken
from inference.training.asr.state import Progress, load_state, save_state
from inference.training.asr.tokenizer import encode_utterances, suppressed_ids, train_tokenizer

Texts = Callable[[int], Iterator[str]]
DevSets = Callable[[], Mapping[str, Sequence[Spoken]]]


def train_asr(
    config: AsrTrainingConfig, producer: Producer, texts: Texts, dev_sets: DevSets
) -> dict[str, Any]:
    """Train, or go on training, within `config.max_seconds`; returns the run's record, also written to `run.json`.

    `producer(seed)` streams utterances and must be picklable (it runs in spawned processes); `texts(seed)` streams
    written utterances for the tokenizer; `dev_sets()` gives utterances to measure on while training. The curve goes to
    `curve.jsonl`. Raises PoolError when no speech arrives.
    """
    started = time.monotonic()
    config.work.mkdir(parents=True, exist_ok=True)
    config.output.mkdir(parents=True, exist_ok=True)
    writers = PoolWriters(
        producer,
        config.work / "pool",
        seed=config.seed,
        num_processes=config.synthesis_processes,
        seconds=config.synthesis_seconds,
        shard_seconds=config.shard_seconds,
    )
    try:
        with ThreadPoolExecutor(max_workers=1) as executor:
            # Speaking the dev sets takes a while, and the first evaluation is far off.
            trainer = _Trainer(config, texts, executor.submit(dev_sets), started)
            return trainer.run(writers)
    finally:
        writers.stop()


class _Trainer:
    """One run's tokenizer, learner, pool, progress and curve."""

    def __init__(
        self,
        config: AsrTrainingConfig,
        texts: Texts,
        dev_sets: Future[Mapping[str, Sequence[Spoken]]],
        started: float,
    ) -> None:
        self.config, self.dev_sets, self.started = config, dev_sets, started
        self.tokenizer = _tokenizer(config, texts)
        self.learner = Learner(config, self.tokenizer)
        banned = suppressed_ids(self.tokenizer)
        self.pool = SpeechPool(
            config.work / "pool",
            lambda batch: encode_utterances(self.tokenizer, batch, banned),
            capacity_hours=config.capacity_hours,
            device=self.learner.device,
        )
        deadline = started + config.max_seconds - config.reserve_seconds
        saved = load_state(config.work, self.learner, deadline=deadline)
        self.resumed = saved is not None
        self.progress = saved or Progress(deadline)
        if not self.resumed and config.start_from is not None:
            self.learner.go_on_from(config.start_from)
        self.curve = Curve(config, self.progress, self.pool, started)

    def run(self, writers: PoolWriters) -> dict[str, Any]:
        """The loop: step, log, save, evaluate. Returns the record."""
        config, progress, curve = self.config, self.progress, self.curve
        self._wait_for_speech(writers)
        self.pool.start_loading()
        progress.start_clock()
        waited = round(time.monotonic() - self.started, 1)
        curve.write("start", resumed=self.resumed, waited=waited)
        last_save = time.monotonic()
        num_evaluated = math.floor(progress.fraction * config.evaluations)
        next_evaluation = (num_evaluated + 1) / config.evaluations
        try:
            while (fraction := progress.fraction) < 1.0:
                losses = self.learner.train_step(self.pool, progress.step, fraction)
                progress.step += 1
                curve.add(*losses)
                if time.monotonic() - last_save > config.save_every_seconds:
                    self._save()
                    last_save = time.monotonic()
                if next_evaluation <= progress.fraction < 1.0:
                    self._evaluate()
                    next_evaluation += 1 / config.evaluations
        finally:
            self.pool.close()
        self._save()
        self._evaluate()
        return self._record()

    def _wait_for_speech(self, writers: PoolWriters) -> None:
        pool, progress = self.pool, self.progress
        while pool.hours < self.config.first_hours and time.monotonic() < progress.deadline:
            writers.check()
            if not pool.load_new():
                time.sleep(0.5)
        pool.view()

    def _save(self) -> None:
        """Write the resumable state, and the weights so far."""
        save_state(self.config.work, self.learner, self.progress)
        save_checkpoint(self.learner.model, self.tokenizer, self.config.output)

    def _evaluate(self) -> None:
        learner, dev_sets = self.learner, self.dev_sets.result()
        wer = word_error_rates(learner.model, self.tokenizer, learner.log_mel, dev_sets)
        self.curve.write("evaluation", wer=wer)

    def _record(self) -> dict[str, Any]:
        """What the run was and came to, also written to `run.json`."""
        record = {
            "config": {name: str(value) for name, value in asdict(self.config).items()},
            "parameters": sum(one.numel() for one in self.learner.model.parameters()),
            "steps": self.progress.step,
            "pool_hours": round(self.pool.hours, 2),
            "data_hash": self.pool.data_hash,
            "unwritable_utterances": self.pool.unwritable,
            "seconds": round(time.monotonic() - self.started, 1),
            "dev_wer": self.curve.last_wer,
            "device": torch.cuda.get_device_name() if self.learner.device.type == "cuda" else "cpu",
            "torch": torch.__version__,
        }
        (self.config.output / "run.json").write_text(json.dumps(record, indent=2) + "\n")
        return record


def _tokenizer(config: AsrTrainingConfig, texts: Texts) -> Tokenizer:
    path = config.work / "tokenizer.json"
    if path.exists():
        return Tokenizer.from_file(str(path))
    if config.start_from is not None:
        tokenizer = Tokenizer.from_file(str(config.start_from / "tokenizer.json"))
    else:
        tokenizer = train_tokenizer(islice(texts(config.seed), config.tokenizer_texts))
    tokenizer.save(str(path))
    return tokenizer
