"""What a run writes: its state, from which it goes on after a kill, its curves, and the checkpoint."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from inference.diffusion.checkpoint import save_model
from inference.diffusion.model import LladaModel
from inference.diffusion.tokenizer import DiffusionTokenizer
from inference.training.dllm.config import LoraConfig, TrainingError
from inference.training.dllm.data import StreamPosition
from inference.training.dllm.lora import save_adapter
from inference.training.dllm.optimizer import DllmOptimizer

STATE_FILE = "state.pt"
METRICS_FILE = "metrics.jsonl"


@dataclass(slots=True)
class Progress:
    """How far a run is."""

    step: int
    elapsed_s: float
    position: StreamPosition
    num_calls: int = 0
    num_tokens: int = 0


def save_state(
    directory: Path, model: LladaModel, optimizer: DllmOptimizer, progress: Progress, *, key: str
) -> None:
    """Write the state file, whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    state = {
        "key": key,
        "model": trained,
        "optimizer": optimizer.state_dict(),
        "step": progress.step,
        "elapsed_s": progress.elapsed_s,
        "batches": progress.position.batches,
        "examples_drawn": list(progress.position.examples_drawn),
        "num_calls": progress.num_calls,
        "num_tokens": progress.num_tokens,
        "rng": torch.get_rng_state(),
    }
    partial = directory / f"{STATE_FILE}.partial"
    torch.save(state, partial)
    os.replace(partial, directory / STATE_FILE)


def load_state(
    directory: Path, model: LladaModel, optimizer: DllmOptimizer, *, key: str
) -> Progress | None:
    """Restore a saved state into model and optimizer; None when there is none.

    Raises:
        TrainingError: the state is of a run with other settings or other data.
    """
    path = directory / STATE_FILE
    if not path.exists():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["key"] != key:
        raise TrainingError(
            f"{path} is of a run with other settings, data or branches; give another state directory or delete it"
        )
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in state["model"].items():
            parameters[name].copy_(tensor)
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["rng"])
    return Progress(
        step=state["step"],
        elapsed_s=state["elapsed_s"],
        position=StreamPosition(state["batches"], tuple(state["examples_drawn"])),
        num_calls=state["num_calls"],
        num_tokens=state["num_tokens"],
    )


def export(
    directory: Path,
    model: LladaModel,
    tokenizer: DiffusionTokenizer,
    lora: LoraConfig | None,
    *,
    base: str,
) -> None:
    """Write what users load: a checkpoint directory in bfloat16, or with LoRA an adapter to the checkpoint `base`."""
    partial = directory / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    if lora is None:
        tensors = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
        save_model(partial, model.config, tensors)
        tokenizer.save(partial, max_length=model.config.max_sequence_length)
    else:
        save_adapter(partial, model, lora, base=base)
    for path in sorted(partial.iterdir()):
        os.replace(path, directory / path.name)
    partial.rmdir()


class Metrics:
    """The curves of a run: one JSON object per line, appended, so that a resumed run goes on in the same file."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / METRICS_FILE

    def write(self, event: str, **values: Any) -> None:
        """Append one event and print it."""
        line = json.dumps({"event": event, **values})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)
