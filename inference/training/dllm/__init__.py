"""Masked-diffusion training on scaffolds: full fine-tuning, LoRA, or a new model."""

from inference.training.dllm.canvas import ExampleError
from inference.training.dllm.config import LoraConfig, TrainConfig, TrainingError
from inference.training.dllm.data import Examples, jsonl_examples
from inference.training.dllm.lora import merge_adapter
from inference.training.dllm.start import embedded_config
from inference.training.dllm.train import train_dllm

__all__ = [
    "ExampleError",
    "Examples",
    "LoraConfig",
    "TrainConfig",
    "TrainingError",
    "embedded_config",
    "jsonl_examples",
    "merge_adapter",
    "train_dllm",
]
