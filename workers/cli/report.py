"""`aftercall report`: the main tables, and a page with charts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from db.repository.reports import Period
from workers.cli.errors import CommandError
from workers.cli.options import parse_moment
from workers.cli.store import open_store
from workers.console import console, print_json
from workers.report.figures import Figures, read_figures
from workers.report.page import render_page
from workers.report.tables import render_report


def command(
    since: Annotated[
        str | None, typer.Option(metavar="ISO-8601", help="Calls that started then or later.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="ISO-8601", help="Calls that started before.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the page with charts there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Report on calls: outcomes, leads, moods, agents, and what needs a person."""
    period = Period(parse_moment("since", since), parse_moment("until", until))
    with open_store() as store, store.database.unit_of_work() as session:
        figures = read_figures(session, period)
    if html is not None:
        write_page(html, figures)
    if as_json:
        print_json(asdict(figures))
        return
    console().print(render_report(figures))
    if html is not None:
        console().print(f"\nThe page with charts: {html.resolve()}", soft_wrap=True)


def write_page(path: Path, figures: Figures) -> None:
    """Write the report's page. Raises CommandError when the place cannot be written."""
    try:
        path.write_text(render_page(figures), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
