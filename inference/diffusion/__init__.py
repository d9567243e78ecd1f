"""The masked-diffusion engine: prompts and JSON schemas in, checked records out."""

from inference.diffusion.engine import CallTooLargeError, DiffusionEngine
from inference.diffusion.request import BranchResult, BranchSpec, CallRequest

__all__ = ["BranchResult", "BranchSpec", "CallRequest", "CallTooLargeError", "DiffusionEngine"]
