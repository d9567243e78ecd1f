"""Masked-diffusion fine-tuning on scaffolds: the run."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from inference.diffusion.checkpoint import load_model, resolve_checkpoint
from inference.diffusion.config import LladaConfig
from inference.diffusion.model import LladaModel
from inference.diffusion.request import BranchSpec
from inference.diffusion.tokenizer import DiffusionTokenizer
from inference.training.dllm.attention import PackedAttention
from inference.training.dllm.canvas import compile_branches
from inference.training.dllm.config import TrainConfig, TrainingError
from inference.training.dllm.data import (
    Batch,
    Examples,
    PackedBatches,
    StreamPosition,
    batch_loader,
    data_hash,
)
from inference.training.dllm.evaluate import encode_calls, field_accuracy
from inference.training.dllm.log import LogWindow
from inference.training.dllm.lora import add_lora
from inference.training.dllm.optimizer import DllmOptimizer
from inference.training.dllm.start import fresh_model, trained_parameters
from inference.training.dllm.state import Metrics, Progress, export, load_state, save_state

HEAD_ELEMENTS = (
    2**28
)  # logits held at once: 1 GiB in float32, so that a 126k vocabulary fits beside the model


def train_dllm(
    config: TrainConfig,
    examples: Examples,
    branches: Sequence[BranchSpec],
    *,
    from_checkpoint: str | Path | None = None,
    fresh: tuple[LladaConfig, DiffusionTokenizer] | None = None,
    evaluation: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> Progress:
    """Train until `config.max_seconds` or `config.max_steps`, or until the data ends.

    A state in `config.state_dir` is continued. `config.out_dir` gets the checkpoint (or the adapter) and
    `metrics.jsonl`, at every save and at the end.

    Args:
        config: the settings.
        examples: the labelled calls of a shard, as dicts of `turns` and `records`.
        branches: the records to learn; names as in the examples.
        from_checkpoint: directory or hub id to fine-tune.
        fresh: architecture and tokenizer of a new model, instead of `from_checkpoint`.
        evaluation: named sets of labelled calls, decoded now and then for their field accuracy.

    Raises:
        TrainingError: settings, data and saved state do not fit, or the loss is no longer finite.
    """
    config.check()
    if (from_checkpoint is None) == (fresh is None):
        raise TrainingError("give either from_checkpoint or fresh")
    trainer = _Trainer(config, examples, branches, from_checkpoint, fresh, evaluation or {})
    return trainer.run()


class _Trainer:
    def __init__(
        self,
        config: TrainConfig,
        examples: Examples,
        branches: Sequence[BranchSpec],
        from_checkpoint: str | Path | None,
        fresh: tuple[LladaConfig, DiffusionTokenizer] | None,
        evaluation: Mapping[str, Sequence[Mapping[str, Any]]],
    ) -> None:
        self.config = config
        self.examples = examples
        name = (
            ("cuda" if torch.cuda.is_available() else "cpu")
            if config.device == "auto"
            else config.device
        )
        self.device = torch.device(name)
        self.dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self.base = str(from_checkpoint or "")
        torch.manual_seed(config.seed)
        self.model, self.tokenizer = self._start(from_checkpoint, fresh)
        self.scaffolds = compile_branches(self.tokenizer, branches)
        self.optimizer = DllmOptimizer(
            *trained_parameters(self.model),
            matrix_lr=config.matrix_lr,
            other_lr=config.other_lr,
            weight_decay=config.weight_decay,
        )
        kind = config.attention
        if kind == "auto":
            kind = "flex" if self.device.type == "cuda" else "dense"
        on_gpu = self.device.type == "cuda"
        self.attention = PackedAttention(
            config.rows, config.row_length, self.device, kind, compiled=on_gpu and config.compile
        )
        if on_gpu and config.compile:
            compile_blocks(self.model)
        self.evaluation = {
            name: encode_calls(
                calls, self.tokenizer, self.scaffolds, max_prompt_tokens=config.max_prompt_tokens
            )
            for name, calls in evaluation.items()
        }
        self.metrics = Metrics(config.out_dir)
        self.data_sha256 = data_hash(examples)
        scaffolds = json.dumps([[s.name, s.tokens] for s in self.scaffolds])
        key = f"{config.resume_key()} {self.data_sha256} {self.base} {scaffolds}"
        self.key = hashlib.sha256(key.encode()).hexdigest()

    def run(self) -> Progress:
        """The loop: step, log, evaluate, save."""
        config = self.config
        num_shards = max(config.num_workers, 1)
        saved = load_state(config.state_dir, self.model, self.optimizer, key=self.key)
        progress = saved or Progress(0, 0.0, StreamPosition.start(num_shards))
        self._describe(progress)
        started = time.monotonic() - progress.elapsed_s
        last_save = last_evaluation = progress.elapsed_s
        log = LogWindow([scaffold.name for scaffold in self.scaffolds], progress)
        for batch in self._batches(progress.position):
            scale = self._rate_scale(progress)
            if scale is None:
                break
            log.add(self._train_step(batch, scale), batch)
            progress.step += 1
            progress.position = progress.position.after(batch)
            progress.num_calls += batch.num_calls
            progress.num_tokens += batch.num_tokens
            progress.elapsed_s = time.monotonic() - started
            if progress.step % config.log_every_steps == 0:
                self.metrics.write("step", **log.summary(progress), rate=round(scale, 4))
            if progress.elapsed_s - last_evaluation >= config.evaluate_every_s:
                self._evaluate(progress)
                progress.elapsed_s = last_evaluation = time.monotonic() - started
            if progress.elapsed_s - last_save >= config.save_every_s:
                self._save(progress)
                progress.elapsed_s = last_save = time.monotonic() - started
        self._save(progress)
        self._evaluate(progress)
        self.metrics.write("end", step=progress.step, elapsed_s=round(progress.elapsed_s, 1))
        return progress

    def _start(
        self,
        from_checkpoint: str | Path | None,
        fresh: tuple[LladaConfig, DiffusionTokenizer] | None,
    ) -> tuple[LladaModel, DiffusionTokenizer]:
        if fresh is not None:
            model_config, tokenizer = fresh
            model = fresh_model(model_config, seed=self.config.seed, device=self.device)
        else:
            assert from_checkpoint is not None
            directory = resolve_checkpoint(from_checkpoint)
            # Full fine-tuning needs float32 weights to add small updates to; a frozen base can stay as it is stored.
            dtype = self.dtype if self.config.lora else torch.float32
            model = load_model(directory, device=self.device, dtype=dtype)
            tokenizer = DiffusionTokenizer.load(directory, model.config)
        if self.config.lora is not None:
            add_lora(model, self.config.lora)
        model.recompute_blocks = self.config.checkpoint_blocks
        for block in model.blocks:
            block.residual_dropout = self.config.dropout
        return model.train(), tokenizer

    def _batches(self, position: StreamPosition) -> Iterator[Batch]:
        dataset = PackedBatches(
            self.config, self.examples, self.tokenizer, self.scaffolds, position
        )
        on_gpu = self.device.type == "cuda"
        loader = batch_loader(dataset, num_workers=self.config.num_workers, pin_memory=on_gpu)
        for batch in loader:
            tensors = {
                name: part.to(self.device, non_blocking=True)
                for name, part in batch._asdict().items()
                if isinstance(part, Tensor)
            }
            yield batch._replace(**tensors)

    def _train_step(self, batch: Batch, scale: float) -> Tensor:
        """One update. Returns on the device the loss, then per branch the sum of NLLs, then per branch their number."""
        self.attention.load(batch)
        hidden = self.model.trunk(
            batch.token_ids, batch.positions, self.attention, dtype=self.dtype
        )
        masked = hidden.flatten(0, 1).index_select(0, batch.loss_rows)
        nll = self._nll(masked, batch.loss_targets.long())
        loss = (nll * batch.loss_weights).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.optimizer.parameters, self.config.clip_norm)
        self.optimizer.step(scale)
        branches, sums = (
            batch.loss_branches.int(),
            torch.zeros(len(self.scaffolds), device=self.device),
        )
        counts = torch.zeros_like(sums).index_add_(0, branches, torch.ones_like(nll))
        sums.index_add_(0, branches, nll.detach())
        return torch.cat([loss.detach()[None], sums, counts])

    def _nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Negative log-likelihood of each target, float32 `[num_masked]`, a bounded number of logits at a time."""

        def head(hidden: Tensor, targets: Tensor) -> Tensor:
            return F.cross_entropy(self.model.logits(hidden).float(), targets, reduction="none")

        rows = max(HEAD_ELEMENTS // self.model.config.embedding_size, 1)
        if len(hidden) <= rows:
            return head(hidden, targets)
        parts = zip(hidden.split(rows), targets.split(rows), strict=True)
        return torch.cat([checkpoint(head, *part, use_reentrant=False) for part in parts])

    def _rate_scale(self, progress: Progress) -> float | None:
        """Warm-up, plateau, linear decay by the share of the run that is over; None when all of it is."""
        config = self.config
        done = 0.0
        if config.max_seconds is not None:
            done = max(done, progress.elapsed_s / config.max_seconds)
        if config.max_steps is not None:
            done = max(done, progress.step / config.max_steps)
        if done >= 1.0:
            return None
        warm = min(1.0, (progress.step + 1) / max(config.warmup_steps, 1))
        return min(warm, (1.0 - done) / config.decay_share if config.decay_share else 1.0)

    def _evaluate(self, progress: Progress) -> None:
        self.model.eval()
        for name, calls in self.evaluation.items():
            started = time.monotonic()
            # Batches of every shape come here: compiling for each would take longer than training.
            with torch.compiler.set_stance("force_eager"):
                fields = field_accuracy(
                    self.model, self.tokenizer, self.scaffolds, calls, dtype=self.dtype
                )
            self.metrics.write(
                "evaluation",
                set=name,
                step=progress.step,
                elapsed_s=round(progress.elapsed_s, 1),
                took_s=round(time.monotonic() - started, 2),
                calls=len(calls),
                fields={field: round(value, 4) for field, value in sorted(fields.items())},
            )
        self.model.train()

    def _save(self, progress: Progress) -> None:
        save_state(self.config.state_dir, self.model, self.optimizer, progress, key=self.key)
        export(self.config.out_dir, self.model, self.tokenizer, self.config.lora, base=self.base)

    def _describe(self, progress: Progress) -> None:
        self.metrics.write(
            "resume" if progress.step else "start",
            config=self.config.to_dict(),
            from_checkpoint=self.base or None,
            model=self.model.config.to_dict(),
            num_parameters=sum(p.numel() for p in self.model.parameters()),
            num_trained=sum(p.numel() for p in self.optimizer.parameters),
            canvas_tokens={scaffold.name: len(scaffold.tokens) for scaffold in self.scaffolds},
            slot_tokens={s.name: len(s.slot_positions()) for s in self.scaffolds},
            data_sha256=self.data_sha256,
            torch=torch.__version__,
            device=torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu",
            step=progress.step,
            elapsed_s=round(progress.elapsed_s, 1),
        )


def compile_blocks(model: LladaModel) -> None:
    """torch.compile both halves of every block, in place. All blocks share one compiled graph per half."""
    for block in model.blocks:
        for half in ("project", "merge"):
            setattr(block, half, torch.compile(getattr(block, half), dynamic=False))
