"""`aftercall demo`: the recordings that ship with the project, scored before your eyes."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from importlib.resources import as_file, files
from pathlib import Path

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from db.enums import CallStatus
from db.repository.calls import statuses
from db.repository.reports import Period
from db.session import Database
from workers.cli.errors import EXIT_FAILED, CommandError
from workers.cli.report import write_page
from workers.cli.store import wake_workers
from workers.console import console, print_error, titled
from workers.ingest.details import CallDetails
from workers.ingest.gather import gather
from workers.ingest.intake import take_in
from workers.local.servers import DataDirectoryBusyError, Urls, open_servers
from workers.readable import count
from workers.report.figures import read_calls, read_figures
from workers.report.tables import CallList, render_report
from workers.settings import Settings, load_settings

SOURCE = "demo"
RECORDINGS = files("workers").joinpath("demo", "recordings")
_POLL_S = 0.5
# No call of the demo takes a minute on two cores; nothing at all in so long means that something is broken.
_PATIENCE_S = 300
_ENDED: frozenset[CallStatus] = frozenset({"scored", "rejected", "failed"})
_QUERIES = {
    "the best leads": "SELECT external_id, lead_score, lead_tier, outcome, next_step FROM call_scores "
    "ORDER BY lead_score DESC NULLS LAST LIMIT 5",
    "agents, day by day": "SELECT agent_id, day, calls, booked_rate, mean_lead_score FROM agent_daily "
    "ORDER BY agent_id, day",
    "what the model is least sure of": "SELECT field, round(avg(confidence)::numeric, 2) AS confidence "
    "FROM field_evidence GROUP BY field ORDER BY confidence LIMIT 10",
}


def command() -> None:
    """Score the recordings that ship with Aftercall and show what comes out. Running it again adds nothing."""
    settings = load_settings()
    out = console()
    with contextlib.ExitStack() as stack:
        manifest = stack.enter_context(as_file(RECORDINGS)) / "manifest.csv"
        if not manifest.is_file():
            raise CommandError(f"the demo's recordings are missing: there is no {manifest}")
        with out.status(f"Starting Postgres, a broker and workers in {settings.data_dir} …"):
            urls = stack.enter_context(_service(settings))
            database = stack.enter_context(Database(urls.database, application="aftercall demo"))
        calls = _ingest(database, urls, manifest)
        _score(database, settings, calls)
        ended_badly = _show(database, settings, calls)
    _say_what_next(settings, calls)
    if ended_badly:
        print_error(
            f"{count(ended_badly, 'call')} failed; the logs are in {settings.data_dir / 'logs'}"
        )
        raise typer.Exit(EXIT_FAILED)


@contextlib.contextmanager
def _service(settings: Settings) -> Iterator[Urls]:
    """A service of our own, or the one that `aftercall up` runs on the same data."""
    from workers.supervisor import running_service

    with contextlib.ExitStack() as stack:
        try:
            urls = stack.enter_context(running_service(settings))
        except DataDirectoryBusyError:
            urls = stack.enter_context(open_servers(settings, start_broker=False))
            if urls.broker is None:
                raise
        yield urls


def _ingest(database: Database, urls: Urls, manifest: Path) -> dict[int, str]:
    """Record the calls; returns their external ids by call id."""
    inputs = gather([], manifest).inputs
    taken = list(take_in(database, inputs, source=SOURCE, defaults=CallDetails()))
    for one in taken:
        if one.outcome == "failed":
            raise CommandError(f"{one.where}: {one.message}")
    new = sum(one.wants_work for one in taken)
    known = f", {count(len(taken) - new, 'call')} already known" if new < len(taken) else ""
    console().print(f"{count(new, 'recording')} ingested{known}.\n")
    wake_workers(urls, "transcribe")
    return {one.call_id: one.external_id or "" for one in taken if one.call_id is not None}


def _score(database: Database, settings: Settings, calls: Mapping[int, str]) -> None:
    """Show each call as it is done. Raises CommandError when nothing moves any more."""
    out = console()
    shown = CallList(list(calls.values()))
    out.print(shown.header())
    before: dict[int, CallStatus] = {}
    moved_at = time.monotonic()
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=out,
        disable=not out.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=len(calls))
        while True:
            with database.unit_of_work() as session:
                now = statuses(session, calls)
                ended = [call_id for call_id, status in now.items() if status in _ENDED]
                new = read_calls(session, [one for one in ended if before.get(one) != now[one]])
            for call in new:
                out.print(shown.row(call))
            bar.update(task, completed=len(ended), description=_doing(now))
            if len(ended) == len(calls):
                return
            if now != before:
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > _PATIENCE_S:
                raise CommandError(
                    f"nothing has moved for {_PATIENCE_S} s; the workers' logs are in {settings.data_dir / 'logs'}"
                )
            before = now
            time.sleep(_POLL_S)


def _doing(now: Mapping[int, CallStatus]) -> str:
    """The earliest stage that any call is in: what one is waiting for."""
    present = set(now.values())
    if present & {"received", "transcribing"}:
        return "Transcribing and scoring"
    return "Scoring" if present - _ENDED else "Scored"


def _show(database: Database, settings: Settings, calls: Mapping[int, str]) -> int:
    """Print the report, write the page; returns how many calls failed."""
    with database.unit_of_work() as session:
        figures = read_figures(session, Period())
        failed = sum(status == "failed" for status in statuses(session, calls).values())
    out = console()
    out.print()
    out.print(render_report(figures))
    write_page(_page(settings), figures)
    return failed


def _page(settings: Settings) -> Path:
    return settings.data_dir / "demo-report.html"


def _say_what_next(settings: Settings, calls: Mapping[int, str]) -> None:
    program = _program()
    commands = {
        "one call in full, with the turns that support each value": f"show {min(calls)}",
        **{about: f'sql "{query}"' for about, query in _QUERIES.items()},
        "your own calls": "ingest YOUR_RECORDINGS/",
        "servers and workers, until Ctrl-C": "up",
    }
    lines = Text()
    if "AFTERCALL_DATA_DIR" in os.environ:
        lines.append(f"export AFTERCALL_DATA_DIR={settings.data_dir.absolute()}\n", style="cyan")
    for about, command in commands.items():
        lines.append(f"# {about}\n", style="dim").append(f"{program} {command}\n", style="cyan")
    out = console()
    out.print(titled("Try next", lines), soft_wrap=True)
    where = Text.assemble(
        "The report with charts: ",
        (_page(settings).absolute().as_uri(), "bold"),
        f"\nThe data: {settings.data_dir.absolute()} (delete it to start afresh)",
    )
    out.print(where, soft_wrap=True)


def _program() -> str:
    """How to call this program again from here."""
    if shutil.which("aftercall"):
        return "aftercall"
    return os.path.relpath(sys.argv[0])
