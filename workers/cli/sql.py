"""`aftercall sql`: ask the database."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from datetime import datetime
from decimal import Decimal
from types import NoneType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text
from sqlalchemy import text
from sqlalchemy.orm import Session

from db.repository import reports
from db.repository.reports import Table
from workers.cli.errors import CommandError
from workers.cli.store import open_store
from workers.console import console, print_json, print_note, table
from workers.readable import count

_GAP = 2  # between columns
_READABLE_WIDTH = 24  # a column that is folded to less than this can no longer be read


def command(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="One query, or `-` to read it.")],
    limit: Annotated[int, typer.Option(min=1, help="Rows to show at most.")] = 1_000,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds the query may take.")] = 60,
    as_json: Annotated[bool, typer.Option("--json", help="A list of objects.")] = False,
) -> None:
    """Run a query that reads, and print its rows. Nothing can be changed with it.

    Begin with the views call_scores (a row per call) and agent_daily (a row per agent and day).
    """
    if query == "-":
        query = sys.stdin.read()
    if not query.strip():
        raise CommandError("the query is empty")
    with open_store() as store, store.database.engine.connect() as connection:
        connection.execute(text(f"SET statement_timeout = {round(timeout * 1000)}"))
        connection.commit()
        with Session(connection) as session:
            answer = reports.run_sql(session, query, limit=limit)
    if as_json:
        names = _distinct(answer.columns)
        print_json([dict(zip(names, row, strict=True)) for row in answer.rows])
    else:
        _print_rows(answer)
    if answer.is_cut:
        print_note(f"there are more rows; --limit shows more than {limit:,}")


def _print_rows(answer: Table) -> None:
    cells = [[_cell(value) for value in row] for row in answer.rows]
    widths = [
        max(len(column), *(len(row[place]) for row in cells), 0)
        for place, column in enumerate(answer.columns)
    ]
    out = console()
    if not out.is_terminal and "COLUMNS" not in os.environ:
        out = console(width=max(sum(widths) + _GAP * len(widths), 1))
    if sum(min(width, _READABLE_WIDTH) + _GAP for width in widths) > out.width:
        _print_expanded(answer.columns, cells, out)
    elif answer.columns:
        numeric = [
            column
            for place, column in enumerate(answer.columns)
            if all(isinstance(row[place], (int, float, Decimal, NoneType)) for row in answer.rows)
        ]
        shown = table(answer.columns, right=numeric)
        for row in cells:
            shown.add_row(*map(Text, row))
        out.print(shown)
    out.print(Text(f"({count(len(answer.rows), 'row')})", style="dim"))


def _print_expanded(columns: tuple[str, ...], cells: list[list[str]], out: Console) -> None:
    """A row that is wider than the screen is readable only from top to bottom."""
    longest = max(map(len, columns))
    for number, row in enumerate(cells, start=1):
        out.print(Text(f"row {number}", style="bold"))
        grid = RichTable.grid(padding=(0, 2))
        grid.add_column(width=longest, style="dim")
        grid.add_column(overflow="fold")
        for column, cell in zip(columns, row, strict=True):
            grid.add_row(Text(column), Text(cell))
        out.print(grid)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _distinct(columns: tuple[str, ...]) -> list[str]:
    """Column names that can be keys: the second `count` becomes `count_2`."""
    seen: Counter[str] = Counter()
    names = []
    for column in columns:
        seen[column] += 1
        names.append(column if seen[column] == 1 else f"{column}_{seen[column]}")
    return names
