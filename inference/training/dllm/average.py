"""One checkpoint out of several: the mean of their weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from inference.diffusion.checkpoint import load_model, resolve_checkpoint, save_model
from inference.diffusion.tokenizer import DiffusionTokenizer
from inference.training.dllm.config import TrainingError

_TOKENIZER = "tokenizer.json"


def average_checkpoints(
    sources: Sequence[str | Path], out: Path, *, parts: Sequence[float] | None = None
) -> None:
    """Write the checkpoint whose every weight is the mean of the sources' ("model soup", Wortsman et al., 2022).

    That helps when one was fine-tuned briefly from the other; far from each other, their mean is no good model.
    Computed in float32, written in the first one's dtype.

    Args:
        sources: checkpoint directories or hub ids of one architecture and one tokenizer.
        out: where the mean goes.
        parts: how much each counts for; alike if not given.

    Raises:
        TrainingError: fewer than two sources, parts that do not fit, another architecture or tokenizer.
        CheckpointError: a source cannot be read.
    """
    parts = parts or [1.0] * len(sources)
    if len(sources) < 2 or len(parts) != len(sources) or min(parts) <= 0:
        raise TrainingError(
            f"{len(sources)} checkpoints and {len(parts)} parts: two or more checkpoints are needed, and a positive "
            "part for each"
        )
    directories = [resolve_checkpoint(source) for source in sources]
    first = directories[0]
    model = load_model(first)
    mean = {name: parts[0] * tensor.float() for name, tensor in model.state_dict().items()}
    for directory, part in zip(directories[1:], parts[1:], strict=True):
        other = load_model(directory)
        if other.config != model.config:
            raise TrainingError(f"{directory} has another architecture than {first}")
        if (directory / _TOKENIZER).read_bytes() != (first / _TOKENIZER).read_bytes():
            raise TrainingError(f"{directory} has another tokenizer than {first}")
        for name, tensor in other.state_dict().items():
            mean[name] += part * tensor.float()
    dtypes = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    tensors = {name: (total / sum(parts)).to(dtypes[name]) for name, total in mean.items()}
    save_model(out, model.config, tensors)
    tokenizer = DiffusionTokenizer.load(first, model.config)
    tokenizer.save(out, max_length=model.config.max_sequence_length)
