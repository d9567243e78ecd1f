"""`aftercall eval`: how good the models are, on simulated calls that training never saw."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.errors import CommandError
from workers.console import console, print_json, print_note
from workers.settings import settings

if TYPE_CHECKING:
    from workers.evaluation.complete import Plan
    from workers.evaluation.report import EvaluationReport


class Part(StrEnum):
    """What can be measured apart."""

    TEXT = "text"
    STEPS = "steps"
    SPEECH = "speech"
    END_TO_END = "end-to-end"


def command(
    calls: Annotated[int, typer.Option(min=1, metavar="N", help="Calls in each text set.")] = 1_000,
    audio_calls: Annotated[
        int, typer.Option(min=1, metavar="N", help="Spoken calls in each speech set.")
    ] = 40,
    steps_calls: Annotated[
        int, typer.Option(min=1, metavar="N", help="Calls decoded at every commit threshold.")
    ] = 100,
    processes: Annotated[
        int, typer.Option(min=1, metavar="N", help="That speak and hear, each on one thread.")
    ] = 1,
    parts: Annotated[
        list[Part] | None,
        typer.Option("--part", help="Measure this part only; may be given more than once."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Other simulated calls than the usual ones.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every measure there as JSON.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Measure both models on simulated calls: fields, evidence, entities, claims, words, steps."""
    # torch and faster-whisper take seconds to import, which the help should not.
    from workers.evaluation.complete import Plan
    from workers.evaluation.tables import tables
    from workers.evaluation.text_sets import EVALUATION_SEED

    plan = Plan(
        parts=frozenset(part.value for part in parts or Part),
        calls=calls,
        steps_calls=steps_calls,
        audio_calls=audio_calls,
        seed=EVALUATION_SEED if seed is None else seed,
        processes=processes,
    )
    report = _measure(plan)
    document: dict[str, Any] = report.to_json()
    if output is not None:
        _write(output, document)
    if as_json:
        print_json(document)
    else:
        for table in tables(report):
            console().print(table)
    for name, reason in report.left_out.items():
        print_note(f"{name} was left out: {reason}")


def _measure(plan: Plan) -> EvaluationReport:
    from inference.diffusion.checkpoint import CheckpointError
    from inference.diffusion.config import ConfigError
    from inference.diffusion.tokenizer import TokenizerError
    from inference.speech.recognizer import SpeechModelError
    from workers.evaluation.complete import evaluate

    try:
        with console(stderr=True).status("") as status:
            return evaluate(plan, settings(), status.update)
    except (CheckpointError, ConfigError, TokenizerError, SpeechModelError) as error:
        raise CommandError(str(error)) from error


def _write(path: Path, document: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
