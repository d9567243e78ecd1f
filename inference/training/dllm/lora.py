"""Low-rank adapters, stored in peft's file format."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from inference.diffusion.checkpoint import load_model, resolve_checkpoint, save_model
from inference.diffusion.model import Linear, LladaModel
from inference.diffusion.tokenizer import DiffusionTokenizer
from inference.training.dllm.config import LoraConfig, TrainingError

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PEFT_PREFIX = "base_model.model."


class LoraLinear(Linear):
    """A frozen projection plus `scaling * B @ A`. Its `weight` keeps the name it has in the base model."""

    def __init__(self, base: Linear, rank: int, alpha: float) -> None:
        super().__init__(base.in_features, base.out_features, bias=False, device="meta")
        self.weight = nn.Parameter(base.weight.detach(), requires_grad=False)
        device = base.weight.device
        self.lora_a = nn.Parameter(torch.empty(rank, base.in_features, device=device))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank, device=device))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))
        self.scaling = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in_features]` to `[..., out_features]`."""
        low = F.linear(x, self.lora_a.to(x.dtype))
        return super().forward(x) + self.scaling * F.linear(low, self.lora_b.to(x.dtype))

    def merged(self) -> Tensor:
        """The weight with the adapter added, in the weight's dtype."""
        update = self.scaling * (self.lora_b.float() @ self.lora_a.float())
        return (self.weight.float() + update).to(self.weight.dtype)


def add_lora(model: LladaModel, config: LoraConfig) -> None:
    """Freeze a model and put adapters on its `target_modules`, in place.

    Raises:
        TrainingError: a target names no projection of the blocks.
    """
    model.requires_grad_(requires_grad=False)
    for name in config.target_modules:
        for block in model.blocks:
            base = getattr(block, name, None)
            if not isinstance(base, Linear):
                raise TrainingError(f"LoRA target {name!r} is not a projection of a LLaDA block")
            setattr(block, name, LoraLinear(base, config.rank, config.alpha))


def lora_layers(model: nn.Module) -> dict[str, LoraLinear]:
    """The adapted projections by module name."""
    return {
        name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)
    }


def save_adapter(directory: Path, model: LladaModel, config: LoraConfig, *, base: str) -> None:
    """Write the adapter's two files as peft reads them; `base` names the checkpoint that it belongs to."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for name, layer in lora_layers(model).items():
        tensors[f"{_PEFT_PREFIX}{name}.lora_A.weight"] = layer.lora_a.detach().cpu().contiguous()
        tensors[f"{_PEFT_PREFIX}{name}.lora_B.weight"] = layer.lora_b.detach().cpu().contiguous()
    save_file(tensors, directory / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    settings = {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted(config.target_modules),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "task_type": None,
    }
    (directory / ADAPTER_CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def merge_adapter(model: LladaModel, directory: Path) -> None:
    """Add an adapter in peft's format to the weights of a loaded base model, in place.

    Raises:
        TrainingError: the adapter is no plain LoRA, or does not fit the model.
    """
    settings = json.loads((directory / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    unsupported = [
        key
        for key in ("use_dora", "use_rslora", "fan_in_fan_out", "rank_pattern")
        if settings.get(key)
    ]
    if settings.get("peft_type") != "LORA" or unsupported:
        raise TrainingError(
            f"{directory} is not a plain LoRA adapter: {settings.get('peft_type')} {unsupported}"
        )
    scaling = settings["lora_alpha"] / settings["r"]
    tensors = load_file(directory / ADAPTER_WEIGHTS)
    weights = dict(model.named_parameters())
    for key in [key for key in tensors if key.endswith(".lora_A.weight")]:
        name = key.removeprefix(_PEFT_PREFIX).removesuffix(".lora_A.weight")
        weight = weights.get(f"{name}.weight")
        low, high = tensors[key], tensors.get(key.replace(".lora_A.", ".lora_B."))
        if weight is None or high is None or weight.shape != (high.shape[0], low.shape[1]):
            raise TrainingError(f"{directory}: {name} of the adapter does not fit the model")
        update = scaling * (high.to(weight.device).float() @ low.to(weight.device).float())
        with torch.no_grad():
            weight.copy_((weight.float() + update).to(weight.dtype))


def merge_checkpoint(base: str | Path, adapter: Path, out: Path) -> None:
    """Write a checkpoint that is `base` (directory or hub id) with an adapter in peft's format added to its weights.

    Raises:
        TrainingError: the adapter is no plain LoRA, or does not fit the model.
    """
    directory = resolve_checkpoint(base)
    model = load_model(directory)
    merge_adapter(model, adapter)
    save_model(out, model.config, model.state_dict())
    tokenizer = DiffusionTokenizer.load(directory, model.config)
    tokenizer.save(out, max_length=model.config.max_sequence_length)
