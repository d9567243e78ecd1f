"""Settings of one training run of the masked-diffusion model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal


class TrainingError(ValueError):
    """A training run cannot start or go on: settings, data or saved state do not fit."""


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """Low-rank adapters instead of full fine-tuning. `target_modules` are published LLaDA module names."""

    rank: int = 16
    alpha: float = 32.0
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "attn_out")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """What a run does. The defaults trained the embedded checkpoint; times are seconds, lengths are tokens.

    One step sees `rows` x `row_length` tokens: calls packed whole into rows, each call as its prompt once and
    `mask_draws` differently masked canvases per branch.
    """

    out_dir: Path
    state_dir: Path
    max_seconds: float | None = (
        None  # wall clock over all resumed parts of the run, compilation included
    )
    max_steps: int | None = None
    seed: int = 0

    rows: int = 8
    row_length: int = 8192
    mask_draws: int = 2
    max_prompt_tokens: int = 1536  # leaves 512 of the embedded model's 2,048 positions to a canvas

    matrix_lr: float = 0.02  # Muon, for the 2-D matrices of the blocks
    other_lr: float = 3e-3  # AdamW, for embeddings, head, norms and LoRA factors
    weight_decay: float = 0.05
    warmup_steps: int = 150
    decay_share: float = (
        0.35  # the last part of the run, over which the rates fall linearly to zero
    )
    clip_norm: float = 1.0
    dropout: float = 0.0  # of what each half of a block adds

    lora: LoraConfig | None = None
    checkpoint_blocks: bool = (
        False  # recompute activations in the backward pass: for 8B-size models
    )
    num_workers: int = 12
    device: Literal["auto", "cpu", "cuda"] = "auto"
    attention: Literal["auto", "flex", "dense"] = (
        "auto"  # auto: flex_attention on a GPU, dense masks on a CPU
    )
    compile: bool = True  # torch.compile of the blocks, on a GPU only
    log_every_steps: int = 20
    save_every_s: float = 60.0
    evaluate_every_s: float = 60.0

    def check(self) -> None:
        """Raises TrainingError for settings that cannot work together."""
        if self.max_seconds is None and self.max_steps is None:
            raise TrainingError(
                "give max_seconds, max_steps or both: the learning rate follows them"
            )
        if self.row_length % 128:
            raise TrainingError(f"row_length={self.row_length} is not a multiple of 128")
        if not 0.0 <= self.decay_share <= 1.0:
            raise TrainingError(f"decay_share={self.decay_share} is not between 0 and 1")
        if not 0.0 <= self.dropout < 1.0:
            raise TrainingError(f"dropout={self.dropout} is not a share below 1")
        if self.mask_draws < 1 or self.rows < 1:
            raise TrainingError("mask_draws and rows must be at least 1")

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON."""
        return json.loads(json.dumps(asdict(self), default=str))

    def resume_key(self) -> str:
        """Hash of the settings that must be equal for a saved state to be continued."""
        names = (
            "seed",
            "rows",
            "row_length",
            "mask_draws",
            "max_prompt_tokens",
            "num_workers",
            "lora",
        )
        settings = self.to_dict()
        text = json.dumps({name: settings[name] for name in names}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
