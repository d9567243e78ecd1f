"""The `aftercall` command. One file per verb; what is heavy is imported by the verbs that need it."""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import Annotated

import typer

from workers.cli import (
    database,
    demo,
    doctor,
    evaluate,
    ingest,
    report,
    reprocess,
    rescore,
    scorecards,
    show,
    sql,
    status,
    train,
    up,
)
from workers.cli.errors import CommandGroup
from workers.console import console
from workers.logs import configure_logging

app = typer.Typer(
    name="aftercall",
    cls=CommandGroup,
    help="Recorded calls become scored rows in Postgres.",
    epilog="Settings are AFTERCALL_* environment variables; `aftercall doctor` shows what they come to.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        console().print(f"aftercall {version('aftercall')}")
        raise typer.Exit


@app.callback()
def _prepare(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and end."
        ),
    ] = False,
) -> None:
    # commands tell people what happens in words; only `up` keeps a log
    configure_logging(logging.CRITICAL)


app.command("demo")(demo.command)
app.command("up")(up.command)
app.command("ingest")(ingest.command)
app.command("status")(status.command)
app.command("show")(show.command)
app.command("report")(report.command)
app.command("sql")(sql.command)
app.command("reprocess")(reprocess.command)
app.command("rescore")(rescore.command)
app.command("doctor")(doctor.command)
app.command("eval")(evaluate.command)
app.add_typer(train.app, name="train")
app.add_typer(scorecards.app, name="scorecards")
app.add_typer(database.app, name="db")


def main() -> None:
    """Entry point of the `aftercall` script."""
    app()
