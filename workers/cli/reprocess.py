"""`aftercall reprocess`: score calls again; what was made of them before is kept."""

from __future__ import annotations

import sys
from typing import Annotated, Literal, cast, get_args

import typer

from db.enums import CallStatus
from db.repository import calls, scorecards
from db.repository.calls import Selection
from workers.cli.options import parse_moment
from workers.cli.store import open_store, wake_workers
from workers.console import console, print_note
from workers.readable import count

STATUSES = get_args(CallStatus)


def command(
    call: Annotated[
        list[str] | None,
        typer.Option(help="A call's number or external id; may be given more than once."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="ISO-8601", help="Calls that started then or later.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="ISO-8601", help="Calls that started before.")
    ] = None,
    agent: Annotated[str | None, typer.Option(help="Calls of this agent.")] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(metavar="STATUS", help=f"{', '.join(STATUSES)}; may be repeated."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every call.")] = False,
    scorecard: Annotated[
        list[str] | None, typer.Option(help="Only this scorecard; may be repeated.")
    ] = None,
    stage: Annotated[
        Literal["transcribe", "analyze"],
        typer.Option("--from", help="Where to begin: at the audio or at the transcript."),
    ] = "analyze",
    yes: Annotated[
        bool, typer.Option("--yes", help="Queue them; without it they are counted.")
    ] = False,
) -> None:
    """Queue calls to be transcribed or analyzed again. Without --yes it says how many and asks."""
    if not any((call, since, until, agent, status, every)):
        raise typer.BadParameter(
            "say which calls: --call, --since, --until, --agent, --status or --all"
        )
    if scorecard and stage == "transcribe":
        raise typer.BadParameter(
            "--scorecard goes with --from analyze; a new transcript gets every scorecard"
        )
    begin, end = parse_moment("since", since), parse_moment("until", until)
    with open_store() as store:
        with store.database.unit_of_work() as session:
            if scorecard:
                scorecards.promoted(session, scorecard)
            named = None if not call else tuple(calls.find_call(session, one) for one in call)
            chosen = calls.select_calls(
                session,
                Selection(named, begin, end, agent, _statuses(status)),
            )
        what = f"{count(len(chosen), 'call')} from {stage}" + (
            f" with {', '.join(scorecard)}" if scorecard else ""
        )
        if not chosen:
            console().print("No call is selected.")
            return
        if not yes and not _agreed(what):
            return
        with store.database.unit_of_work() as session:
            done = calls.reprocess(session, chosen, stage, scorecards=scorecard or None)
        answered = wake_workers(store.urls, stage)
    console().print(
        f"{count(len(done.enqueued), 'call')} queued from {stage}; earlier runs are kept."
    )
    if done.skipped:
        print_note(
            f"{count(len(done.skipped), 'call')} left out: no transcript to analyze; use --from transcribe"
        )
    if done.enqueued and not answered:
        print_note("no broker answers; they run when it does (`aftercall up` runs one)")


def _agreed(what: str) -> bool:
    """Ask at a terminal; elsewhere nobody can answer, so nothing is done."""
    if sys.stdin.isatty():
        return typer.confirm(f"Reprocess {what}?")
    console().print(f"{what} would be reprocessed; --yes does it.")
    return False


def _statuses(names: list[str] | None) -> tuple[CallStatus, ...] | None:
    for name in names or ():
        if name not in STATUSES:
            raise typer.BadParameter(f"--status: {name!r} is none of {', '.join(STATUSES)}")
    return tuple(cast(CallStatus, name) for name in names) if names else None
