"""Decoding kernels: `naive` says in plain PyTorch what they compute, the other modules do it on a GPU with Triton."""
