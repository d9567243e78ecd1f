"""`aftercall status`: what waits, what runs, what went wrong."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from db.repository import reports
from db.repository.reports import Failure, PipelineRow, StatusCount, ValueRow
from workers.cli.store import open_store
from workers.console import console, print_json, table, titled
from workers.readable import count, moment, span, words

_NUM_FAILURES = 10
_STATE_STYLES = {"dead": "red", "leased": "cyan", "done": "green"}


def command(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Show where the calls are: by status, by stage with the oldest waiting, verdicts and failures."""
    with open_store() as store, store.database.unit_of_work() as session:
        by_status = reports.pipeline_calls(session)
        stages = reports.pipeline(session)
        verdicts = reports.by_verdict(session)
        failures = reports.pipeline_failures(session, limit=_NUM_FAILURES)
        is_running = store.urls.broker is not None
    if as_json:
        print_json(
            {
                "calls": {row.status: row.calls for row in by_status},
                "stages": [asdict(row) for row in stages],
                "verdicts": {row.value: row.calls for row in verdicts},
                "failures": [asdict(row) for row in failures],
            }
        )
        return
    _print_calls(by_status)
    if stages:
        _print_stages(stages)
    if verdicts:
        _print_verdicts(verdicts)
    if failures:
        _print_failures(failures)
    waiting = sum(row.jobs for row in stages if row.state == "ready")
    if waiting and not is_running:
        console().print(f"\n{count(waiting, 'job')} waiting and no workers: run `aftercall up`.")


def _print_calls(rows: tuple[StatusCount, ...]) -> None:
    total = sum(row.calls for row in rows)
    if not total:
        console().print("No calls yet. `aftercall ingest PATH` records some.")
        return
    parts = ", ".join(f"{row.calls:,} {row.status}" for row in rows)
    console().print(Text.assemble((count(total, "call"), "bold"), f": {parts}"))


def _print_stages(rows: tuple[PipelineRow, ...]) -> None:
    shown = table(
        ["stage", "state", "jobs", "due", "oldest", "remarks"],
        right=["jobs", "due", "oldest"],
    )
    for row in rows:
        remarks = [
            f"{number} {what}"
            for number, what in ((row.retrying, "after an error"), (row.expired, "lease expired"))
            if number
        ]
        shown.add_row(
            row.stage,
            Text(row.state, style=_STATE_STYLES.get(row.state, "")),
            f"{row.jobs:,}",
            f"{row.due:,}" if row.due else "",
            span(row.oldest_s) if row.oldest_s is not None else "",
            ", ".join(remarks),
        )
    console().print(titled("Stages", shown))


def _print_verdicts(rows: tuple[ValueRow, ...]) -> None:
    shown = table(["verdict", "calls"], right=["calls"])
    for row in rows:
        shown.add_row(words(row.value), f"{row.calls:,}")
    console().print(titled("Verdicts on recordings", shown))


def _print_failures(rows: tuple[Failure, ...]) -> None:
    shown = table(
        ["call", "external id", "status", "when (UTC)", "reason"],
        right=["call"],
    )
    for row in rows:
        error = f"{row.error_class}: " if row.status == "failed" and row.error_class else ""
        style = "red" if row.status == "failed" else "yellow"
        shown.add_row(
            str(row.call_id),
            row.external_id,
            Text(row.status, style=style),
            moment(row.failed_at),
            error + (row.reason or ""),
        )
    title = f"Newest calls that need a person (at most {_NUM_FAILURES})"
    console().print(titled(title, shown))
