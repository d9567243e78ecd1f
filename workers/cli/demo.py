"""`aftercall demo`: the recordings that ship with the project, scored before your eyes."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Collection, Iterator
from importlib.resources import as_file, files
from pathlib import Path

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from db.enums import CallStatus
from db.repository import calls
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
from workers.report.figures import newest_calls, read_figures
from workers.report.tables import render_calls, render_report
from workers.settings import Settings, load_settings

SOURCE = "demo"
RECORDINGS = files("workers").joinpath("demo", "recordings")
_POLL_S = 0.5
# No call of the demo takes a minute on two cores; nothing at all in so long means that something is broken.
_PATIENCE_S = 300
_ENDED: frozenset[CallStatus] = frozenset({"scored", "rejected", "failed"})
_QUERIES = (
    "SELECT external_id, lead_score, lead_tier, outcome, summary FROM call_scores "
    "ORDER BY lead_score DESC NULLS LAST LIMIT 5",
    "SELECT agent_id, calls, booked_rate, mean_lead_score, median_response_gap_p50_ms FROM agent_daily",
    "SELECT field, round(avg(confidence)::numeric, 2) AS confidence FROM field_evidence GROUP BY 1 ORDER BY 2",
)


def command() -> None:
    """Score the recordings that ship with Aftercall and show what comes out. Running it again adds nothing."""
    settings = load_settings()
    out = console()
    with contextlib.ExitStack() as stack:
        manifest = stack.enter_context(as_file(RECORDINGS)) / "manifest.csv"
        if not manifest.is_file():
            raise CommandError(f"the demo's recordings are missing: there is no {manifest}")
        with out.status(f"Starting servers and workers in {settings.data_dir} …"):
            urls = stack.enter_context(_service(settings))
            database = stack.enter_context(Database(urls.database, application="aftercall demo"))
        call_ids = _ingest(database, urls, manifest)
        _wait(database, settings, call_ids)
        ended_badly = _show(database, settings)
    _say_what_next(settings)
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


def _ingest(database: Database, urls: Urls, manifest: Path) -> list[int]:
    inputs = gather([], manifest).inputs
    taken = list(take_in(database, inputs, source=SOURCE, defaults=CallDetails()))
    new = sum(one.wants_work for one in taken)
    known = count(len(taken) - new, "call") + " already known"
    console().print(
        f"{count(new, 'recording')} recorded" + (f", {known}." if new < len(taken) else ".")
    )
    for one in taken:
        if one.outcome == "failed":
            raise CommandError(f"{one.where}: {one.message}")
    wake_workers(urls, "transcribe")
    return sorted({one.call_id for one in taken if one.call_id is not None})


def _wait(database: Database, settings: Settings, call_ids: Collection[int]) -> None:
    """Until every call is done, one way or the other. Raises CommandError when nothing moves any more."""
    out = console()
    before: dict[int, CallStatus] = {}
    moved_at = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=out, disable=not out.is_terminal
    ) as progress:
        bar = progress.add_task("", total=len(call_ids))
        while True:
            with database.unit_of_work() as session:
                now = calls.statuses(session, call_ids)
            if now != before:
                moved_at = time.monotonic()
            if not out.is_terminal:
                _tell_changes(before, now)
            ended = sum(status in _ENDED for status in now.values())
            progress.update(bar, completed=ended, description=_doing(now))
            if ended == len(call_ids):
                return
            if time.monotonic() - moved_at > _PATIENCE_S:
                raise CommandError(
                    f"nothing has moved for {_PATIENCE_S} s; the workers' logs are in {settings.data_dir / 'logs'}"
                )
            before = now
            time.sleep(_POLL_S)


def _doing(statuses: dict[int, CallStatus]) -> str:
    """The earliest stage that any call is in: what one is waiting for."""
    present = set(statuses.values())
    if present & {"received", "transcribing"}:
        return "Transcribing"
    return "Scoring" if present - _ENDED else "Scored"


def _tell_changes(before: dict[int, CallStatus], now: dict[int, CallStatus]) -> None:
    for call_id, status in now.items():
        if status in _ENDED and before.get(call_id) != status:
            console().print(f"call {call_id} {status}")


def _show(database: Database, settings: Settings) -> int:
    """Print calls and report, write the page; returns how many calls failed."""
    out = console()
    with database.unit_of_work() as session:
        figures = read_figures(session, Period())
        listed = newest_calls(session, Period(), limit=100)
    own = sorted((call for call in listed if call.source == SOURCE), key=lambda call: call.call_id)
    out.print(render_calls(own))
    out.print()
    out.print(render_report(figures))
    write_page(_page(settings), figures)
    return sum(call.status == "failed" for call in own)


def _page(settings: Settings) -> Path:
    return settings.data_dir / "demo-report.html"


def _say_what_next(settings: Settings) -> None:
    program = _program()
    lines = [f'{program} sql "{query}"' for query in _QUERIES]
    lines += [f"{program} show 1", f"{program} ingest YOUR_RECORDINGS/", f"{program} up"]
    out = console()
    out.print(titled("Try next", Text("\n".join(lines), style="cyan")), soft_wrap=True)
    where = Text.assemble(
        "\nThe report with charts: ",
        (_page(settings).absolute().as_uri(), "bold"),
        f"\nThe data: {settings.data_dir.absolute()}",
    )
    out.print(where, soft_wrap=True)


def _program() -> str:
    """How to call this program again from here."""
    if shutil.which("aftercall"):
        return "aftercall"
    return os.path.relpath(sys.argv[0])
