"""`aftercall show`: one call as a person would read it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from db.repository import calls
from db.repository.show import show_call
from workers.cli.store import open_store
from workers.console import console, print_json
from workers.report.call import render_call


def command(
    call: Annotated[
        str,
        typer.Argument(metavar="CALL", help="Its number, its external id, or SOURCE/EXTERNAL_ID."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Show one call: what was said, what was made of it, and the turns that support it."""
    with open_store() as store, store.database.unit_of_work() as session:
        shown = show_call(session, calls.find_call(session, call))
    if as_json:
        print_json(asdict(shown))
    else:
        console().print(render_call(shown))
