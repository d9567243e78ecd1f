"""Writing for people: consoles that know their width, tables, and JSON for scripts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from pydantic import BaseModel
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

# What is not a terminal has no width: wide enough for a table's columns, narrow enough to be read in a log.
WIDTH_IN_A_PIPE = 120


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console on the current standard output (or error); `COLUMNS` sets its width, as in a shell."""
    stream = sys.stderr if stderr else sys.stdout
    if width is None and "COLUMNS" not in os.environ and not stream.isatty():
        width = WIDTH_IN_A_PIPE
    return Console(
        stderr=stderr,
        width=width,
        markup=False,  # text from calls may hold [brackets] and :colons:
        emoji=False,
        highlight=False,
        soft_wrap=False,
    )


def print_error(message: str) -> None:
    """One line on standard error that says what went wrong."""
    one_line = " ".join(message.split())
    console(stderr=True).print(Text.assemble(("aftercall: ", "bold red"), one_line), soft_wrap=True)


def print_note(message: str) -> None:
    """One line on standard error that a person should know and no script needs."""
    console(stderr=True).print(Text.assemble(("note: ", "yellow"), message), soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on one line of standard output."""
    sys.stdout.write(json.dumps(value, default=_as_json, ensure_ascii=False) + "\n")


def table(columns: Sequence[str], *, right: Iterable[str] = ()) -> Table:
    """An empty table in the house's look. The columns named in `right` hold numbers."""
    made = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False, show_edge=False)
    numeric = set(right)
    for name in columns:
        made.add_column(name, justify="right" if name in numeric else "left", overflow="fold")
    return made


def titled(title: str, inner: RenderableType) -> Group:
    """Something under its title, with an empty line before it."""
    return Group(Text(f"\n{title}", style="bold"), inner)


def _as_json(value: object) -> object:
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return str(value)
