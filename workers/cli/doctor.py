"""`aftercall doctor`: what is missing here, and how to get it."""

from __future__ import annotations

import typer
from rich.table import Table
from rich.text import Text

from workers.cli.checks import State, examine
from workers.cli.errors import EXIT_FAILED
from workers.console import console, titled
from workers.settings import PREFIX, Settings, load_settings, without_password

_MARKS: dict[State, tuple[str, str]] = {
    "ok": ("ok", "green"),
    "missing": ("missing", "bold red"),
    "optional": ("optional", "dim"),
}


def command() -> None:
    """Check what the service needs on this machine, and say how to get what is missing."""
    settings = load_settings()
    out = console()
    with out.status("Looking …"):
        findings = list(examine(settings))
    rows = Table.grid(padding=(0, 2))
    rows.add_column()
    rows.add_column()
    rows.add_column(overflow="fold")
    for finding in findings:
        word, style = _MARKS[finding.state]
        detail = Text(finding.detail)
        if finding.remedy is not None:
            detail.append(
                f"\n→ {finding.remedy}", style="yellow" if finding.state == "missing" else "dim"
            )
        rows.add_row(Text(word, style=style), finding.subject, detail)
    out.print(rows)
    out.print(titled("Settings that differ from their defaults", _settings(settings)))
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(EXIT_FAILED)


def _settings(settings: Settings) -> Table | Text:
    told = settings.model_fields_set
    if not told:
        return Text(f"none; each is an environment variable {PREFIX}…", style="dim")
    rows = Table.grid(padding=(0, 2))
    for name in sorted(told):
        value = str(getattr(settings, name))
        rows.add_row(f"{PREFIX}{name.upper()}", without_password(value))
    return rows
