"""How many programs of a kernel run at a time, where each takes tile after tile."""

from __future__ import annotations

import torch

IN_THE_INTERPRETER = 3  # enough for a program to take several tiles


def num_programs(device: torch.device) -> int:
    """One for each multiprocessor: tiles are so large that one program fills it."""
    if device.type != "cuda":
        return IN_THE_INTERPRETER
    return torch.cuda.get_device_properties(device).multi_processor_count
