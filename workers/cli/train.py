"""`aftercall train`: the commands that made the embedded checkpoints, for a team's own data.

Options are those of the training modules, which also run alone on a machine that has no service installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.cli.errors import CommandError

app = typer.Typer(
    help="Train the analysis model (dllm) or the speech recogniser (asr).", no_args_is_help=True
)
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command("dllm", context_settings=_PASS_ON, add_help_option=False)
def dllm(context: typer.Context) -> None:
    """Train or fine-tune the masked-diffusion model: `--data calls.jsonl --from CHECKPOINT`, see `--help`."""
    from workers.cli import train_dllm

    train_dllm.main(context.args)


@app.command("asr", context_settings=_PASS_ON, add_help_option=False)
def asr(context: typer.Context) -> None:
    """Train a recogniser from scratch on synthetic telephone speech, see `--help`."""
    from workers.cli import train_asr

    train_asr.main(context.args)


@app.command("merge")
def merge(
    base: Annotated[str, typer.Argument(help="The checkpoint that the adapter was trained from.")],
    adapter: Annotated[Path, typer.Argument(help="What `train dllm --lora-rank` wrote.")],
    out: Annotated[Path, typer.Argument(help="Where the merged checkpoint goes.")],
) -> None:
    """Add a LoRA adapter to its base checkpoint; the result runs like any other: `AFTERCALL_DLLM_MODEL=OUT`."""
    from inference.diffusion.checkpoint import CheckpointError
    from inference.training.dllm import TrainingError
    from inference.training.dllm.lora import merge_checkpoint

    try:
        merge_checkpoint(base, adapter, out)
    except (CheckpointError, TrainingError, OSError) as error:
        raise CommandError(str(error)) from error


@app.command("average")
def average(
    out: Annotated[Path, typer.Argument(help="Where the mean goes.")],
    checkpoints: Annotated[
        list[str], typer.Argument(help="Checkpoint directories, of one model and one tokenizer.")
    ],
    part: Annotated[
        list[float] | None,
        typer.Option(help="How much each counts for, once per checkpoint; alike if not given."),
    ] = None,
) -> None:
    """Write the mean of several checkpoints' weights, as of a model and a short fine-tuning of it."""
    from inference.diffusion.checkpoint import CheckpointError
    from inference.training.dllm import TrainingError
    from inference.training.dllm.average import average_checkpoints

    try:
        average_checkpoints(checkpoints, out, parts=part)
    except (CheckpointError, TrainingError, OSError) as error:
        raise CommandError(str(error)) from error
