"""Training from scratch on a growing pool of synthetic speech, within a budget of wall-clock time."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from inference.training.asr.config import AsrTrainingConfig, Stage
from inference.training.asr.decode import word_errors
from inference.training.asr.export import load_weights, save_checkpoint
from inference.training.asr.features import LogMel
from inference.training.asr.masking import mask_features, warp_features
from inference.training.asr.model import Whisper, WhisperShape
from inference.training.asr.pool import PoolWriters, Producer, SpeechPool, Spoken
from inference.training.asr.telephone import TelephoneLine, gather
from inference.training.asr.tokenizer import (
    SpecialIds,
    encode_utterances,
    suppressed_ids,
    train_tokenizer,
)
from inference.training.asr.windows import CTC_ALPHABET, Batch, WindowPlanner

Texts = Callable[[int], Iterator[str]]
DevSets = Callable[[], Mapping[str, Sequence[Spoken]]]


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on the device, but for what CTC and the line read on the host; copies do not wait."""

    def move(tensor: Tensor) -> Tensor:
        return tensor.pin_memory().to(device, non_blocking=True)

    if device.type != "cuda":
        return batch
    placement = batch.placement
    return replace(
        batch,
        placement=replace(
            placement,
            window=move(placement.window),
            start=move(placement.start),
            source=move(placement.source),
            length=move(placement.length),
            source_length=move(placement.source_length),
            speed=move(placement.speed),
            gain=move(placement.gain),
        ),
        inputs=move(batch.inputs),
        targets=move(batch.targets),
        learned=move(batch.learned),
        frames=move(batch.frames),
        headroom=move(batch.headroom),
        letters=move(batch.letters),
    )


class AsrTrainer:
    """One run's model, optimiser, pool and clock."""

    def __init__(self, config: AsrTrainingConfig, tokenizer: Tokenizer, started: float) -> None:
        self.config = config
        self.device = torch.device(config.device)
        torch.manual_seed(config.seed)
        self.tokenizer = tokenizer
        self.ids = SpecialIds.of(tokenizer)
        shape = WhisperShape(
            vocabulary=self.ids.size,
            width=config.width,
            heads=config.width // 64,
            encoder_layers=config.layers,
            decoder_layers=config.layers,
            feed_forward=4 * config.width,
        )
        self.model = Whisper(shape).to(self.device)
        self.ctc_head = nn.Linear(config.width, len(CTC_ALPHABET) + 1).to(self.device)
        trained = [*self.model.parameters(), *self.ctc_head.parameters()]
        self.parameters = [parameter for parameter in trained if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            [
                {
                    "params": [one for one in self.parameters if one.dim() >= 2],
                    "weight_decay": config.weight_decay,
                },
                {"params": [one for one in self.parameters if one.dim() < 2], "weight_decay": 0.0},
            ],
            lr=0.0,
            betas=(0.9, 0.98),
            eps=1e-6,
            fused=self.device.type == "cuda",
        )
        self.log_mel = LogMel(self.device)
        self.step = 0
        self.deadline = started + config.max_seconds - config.reserve_seconds
        self._fraction_before = 0.0
        self._resumed_at = time.monotonic()
        self._reseed()

    def _reseed(self) -> None:
        self.generator = torch.Generator(self.device).manual_seed(
            self.config.seed * 1_000_003 + self.step
        )
        self.line = TelephoneLine(self.device, self.generator)
        self.planner = WindowPlanner(self.ids, self.config.seed * 1_000_003 + self.step)

    @property
    def fraction(self) -> float:
        """How much of the run is over, by the clock: 0 to 1. A resumed run goes on from where it was saved."""
        budget = max(self.deadline - self._resumed_at, 1e-6)
        share = min(1.0, (time.monotonic() - self._resumed_at) / budget)
        return self._fraction_before + (1 - self._fraction_before) * share

    def stage(self, fraction: float) -> Stage:
        """The curriculum's stage at this fraction."""
        return next(
            (stage for stage in self.config.stages if fraction < stage.until),
            self.config.stages[-1],
        )

    def learning_rate(self, fraction: float) -> float:
        """Linear warm-up by steps, cosine to zero by the clock."""
        warm = min(1.0, (self.step + 1) / self.config.warmup_steps)
        return self.config.learning_rate * warm * (0.5 + 0.5 * math.cos(math.pi * fraction))

    def losses(
        self, batch: Batch, pool: SpeechPool, seconds: float, fraction: float
    ) -> tuple[Tensor, Tensor]:
        """(cross-entropy of the decoder, CTC loss of the encoder; the latter 0 once switched off)."""
        num_windows = len(batch.frames)
        with torch.no_grad():
            clean = gather(pool.buffer, batch.placement, num_windows, int(seconds * 8_000))
            heard = self.line(clean, batch.sounds)
            power = self.log_mel.log_power(self.log_mel.upsample(heard))
            mel = self.log_mel.normalise(power, batch.headroom, batch.frames)
            if fraction >= self.config.mask_from:
                mel = mask_features(warp_features(mel, self.generator), self.generator)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            audio = self.model.encoder(mel, self.config.dropout)
            hidden = self.model.decoder(batch.inputs, audio, self.config.dropout)
            # index_select, not indexing: the gradient of the latter sorts.
            logits = self.model.logits(hidden.flatten(0, 1).index_select(0, batch.learned))
        decoder_loss = F.cross_entropy(
            logits.float(),
            batch.targets.flatten()[batch.learned],
            label_smoothing=self.config.label_smoothing,
        )
        if fraction >= self.config.ctc_until:
            return decoder_loss, torch.zeros((), device=self.device)
        scores = F.log_softmax(self.ctc_head(audio.float()), dim=-1).transpose(0, 1)
        ctc_loss = F.ctc_loss(
            scores,
            batch.letters,
            torch.full((num_windows,), scores.shape[0]),
            batch.letter_counts,
            reduction="none",
            zero_infinity=True,
        )
        # Per letter, but a window with little or no speech counts as if it held a slow speaker.
        letters = batch.letter_counts.clamp(min=scores.shape[0] // 8).to(self.device)
        return decoder_loss, (ctc_loss / letters).mean()

    def train_step(self, pool: SpeechPool) -> tuple[Tensor, Tensor]:
        """One optimiser step; losses stay on the device."""
        fraction = self.fraction
        stage = self.stage(fraction)
        batch = self.planner.batch(pool.view(), stage.windows, stage.seconds)
        decoder_loss, ctc_loss = self.losses(
            to_device(batch, self.device), pool, stage.seconds, fraction
        )
        first, last = self.config.ctc_weight
        weight = first + (last - first) * min(1.0, fraction / self.config.ctc_until)
        (decoder_loss + weight * ctc_loss).backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(fraction)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return decoder_loss.detach(), ctc_loss.detach()

    def save(self) -> None:
        """Write the resumable state, atomically, and the weights so far."""
        state = {
            "model": self.model.state_dict(),
            "ctc_head": self.ctc_head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "fraction": self.fraction,
        }
        path = self.config.work / "state.pt"
        torch.save(state, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)
        save_checkpoint(self.model, self.tokenizer, self.config.output)

    def resume(self) -> bool:
        """Take up the saved state, when there is one."""
        path = self.config.work / "state.pt"
        if not path.exists():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.ctc_head.load_state_dict(state["ctc_head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self._fraction_before = state["fraction"]
        self._reseed()
        return True

    def go_on_from(self, checkpoint: Path) -> None:
        """Take over the weights of a trained checkpoint of the same shape and tokenizer."""
        weights = load_weights(checkpoint)
        fixed = "encoder.embed_positions.weight"
        self.model.load_state_dict({fixed: self.model.state_dict()[fixed], **weights})

    def start_clock(self) -> None:
        """Count the schedule from now: waiting for speech is not training."""
        self._resumed_at = time.monotonic()

    def evaluate(self, dev_sets: Mapping[str, Sequence[Spoken]]) -> dict[str, float]:
        """Word error rates in per cent."""
        return {
            name: round(
                100 * word_errors(self.model, self.tokenizer, self.log_mel, utterances).rate, 2
            )
            for name, utterances in dev_sets.items()
        }


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


def _wait_for_speech(pool: SpeechPool, writers: PoolWriters, hours: float, deadline: float) -> None:
    while pool.hours < hours and time.monotonic() < deadline:
        writers.check()
        if not pool.load_new():
            time.sleep(0.5)
    pool.view()


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
            return _train(config, writers, texts, executor.submit(dev_sets), started)
    finally:
        writers.stop()


def _train(
    config: AsrTrainingConfig,
    writers: PoolWriters,
    texts: Texts,
    dev_sets: Future[Mapping[str, Sequence[Spoken]]],
    started: float,
) -> dict[str, Any]:
    tokenizer = _tokenizer(config, texts)
    banned = suppressed_ids(tokenizer)
    trainer = AsrTrainer(config, tokenizer, started)
    pool = SpeechPool(
        config.work / "pool",
        lambda batch: encode_utterances(tokenizer, batch, banned),
        capacity_hours=config.capacity_hours,
        device=trainer.device,
    )
    resumed = trainer.resume()
    if not resumed and config.start_from is not None:
        trainer.go_on_from(config.start_from)
    _wait_for_speech(pool, writers, config.first_hours, trainer.deadline)
    pool.start_loading()
    trainer.start_clock()
    curve = _Curve(config, trainer, pool, started)
    curve.note(event="start", resumed=resumed, waited=round(time.monotonic() - started, 1))
    last_save = time.monotonic()
    next_evaluation = (math.floor(trainer.fraction * config.evaluations) + 1) / config.evaluations
    try:
        while trainer.fraction < 1.0:
            curve.add(*trainer.train_step(pool))
            if time.monotonic() - last_save > config.save_every_seconds:
                trainer.save()
                last_save = time.monotonic()
            if next_evaluation <= trainer.fraction < 1.0:
                curve.note(event="evaluation", wer=trainer.evaluate(dev_sets.result()))
                next_evaluation += 1 / config.evaluations
    finally:
        pool.close()
    trainer.save()
    curve.note(event="evaluation", wer=trainer.evaluate(dev_sets.result()))
    record = {
        "config": {name: str(value) for name, value in asdict(config).items()},
        "parameters": sum(one.numel() for one in trainer.model.parameters()),
        "steps": trainer.step,
        "pool_hours": round(pool.hours, 2),
        "data_hash": pool.data_hash,
        "unwritable_utterances": pool.unwritable,
        "seconds": round(time.monotonic() - started, 1),
        "dev_wer": curve.last_wer,
        "device": torch.cuda.get_device_name() if trainer.device.type == "cuda" else "cpu",
        "torch": torch.__version__,
    }
    (config.output / "run.json").write_text(json.dumps(record, indent=2) + "\n")
    return record


class _Curve:
    """Progress, printed and appended to `curve.jsonl`."""

    def __init__(
        self, config: AsrTrainingConfig, trainer: AsrTrainer, pool: SpeechPool, started: float
    ) -> None:
        self._path = config.output / "curve.jsonl"
        self._config, self._trainer, self._pool, self._started = config, trainer, pool, started
        self._losses: list[tuple[Tensor, Tensor]] = []
        self.last_wer: dict[str, float] = {}

    def add(self, decoder_loss: Tensor, ctc_loss: Tensor) -> None:
        """Collect one step's losses; every so many steps their mean becomes a line (the only wait for the device)."""
        self._losses.append((decoder_loss, ctc_loss))
        if len(self._losses) < self._config.log_every_steps:
            return
        means = torch.stack([torch.stack(pair) for pair in self._losses]).mean(0).tolist()
        self._losses.clear()
        if not math.isfinite(means[0]):
            raise FloatingPointError(f"the loss is {means[0]} at step {self._trainer.step}")
        self.note(event="step", loss=round(means[0], 4), ctc=round(means[1], 4))

    def note(self, **values: Any) -> None:
        """Write one line."""
        self.last_wer = values.get("wer", self.last_wer)
        fraction = self._trainer.fraction
        line = {
            "step": self._trainer.step,
            "seconds": round(time.monotonic() - self._started, 1),
            "fraction": round(fraction, 4),
            "rate": round(self._trainer.learning_rate(fraction), 7),
            "pool_hours": round(self._pool.hours, 2),
            **values,
        }
        text = json.dumps(line)
        with self._path.open("a") as file:
            file.write(text + "\n")
        print(text, flush=True)
