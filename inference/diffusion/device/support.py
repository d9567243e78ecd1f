"""On which devices the kernels run."""

from __future__ import annotations

import torch

# Bytes that a block can be given: of an H100, H200 or B200. Tiles are sized for it; other GPUs have half, or less.
SHARED_MEMORY = 232_448


def runs_kernels(device: torch.device) -> bool:
    """Whether the kernels' tiles fit the device. Where they do not, the engine computes in plain PyTorch."""
    if device.type != "cuda":
        return False
    properties = torch.cuda.get_device_properties(device)
    return bool(getattr(properties, "shared_memory_per_block_optin", 0) >= SHARED_MEMORY)
