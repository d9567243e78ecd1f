"""`aftercall reprocess`: score calls again; what was made of them before is kept."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from typing import Annotated, Literal, cast, get_args

import typer
from sqlalchemy.orm import Session

from db import queue
from db.enums import CallStatus, Stage
from db.repository import calls, scorecards
from db.repository.calls import Reprocessed, Selection
from workers.cli.options import parse_moment
from workers.cli.store import open_store, wake_workers
from workers.console import console, print_note
from workers.readable import count

STAGES: tuple[Stage, ...] = get_args(Stage)
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
        Literal["transcribe", "analyze"] | None,
        typer.Option(
            "--from",
            help="Where to begin: at the audio or at the transcript. Left out: a failed call where it failed, "
            "others at the transcript.",
            show_default=False,
        ),
    ] = None,
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
            planned = _planned(session, chosen, stage)
        if not chosen:
            console().print("No call is selected.")
            return
        what = " and ".join(
            f"{count(len(ids), 'call')} from {begin_at}"
            + (f" with {', '.join(scorecard)}" if scorecard and begin_at == "analyze" else "")
            for begin_at, ids in planned.items()
        )
        if not yes and not _agreed(what):
            return
        with store.database.unit_of_work() as session:
            done = {
                begin_at: calls.reprocess(
                    session,
                    ids,
                    begin_at,
                    scorecards=(scorecard or None) if begin_at == "analyze" else None,
                )
                for begin_at, ids in planned.items()
            }
        answered = [wake_workers(store.urls, begin_at) for begin_at in planned]
    _tell(done, answered=all(answered))


def _planned(
    session: Session, call_ids: Collection[int], stage: Stage | None
) -> dict[Stage, list[int]]:
    """Which calls begin at which stage: at `stage`, or where it is not told, a failed call where it failed."""
    failed_at = queue.failed_at(session, call_ids) if stage is None else {}
    planned: dict[Stage, list[int]] = {}
    for begin_at in STAGES:
        ids = [one for one in call_ids if failed_at.get(one, stage or "analyze") == begin_at]
        if ids:
            planned[begin_at] = ids
    return planned


def _tell(done: Mapping[Stage, Reprocessed], *, answered: bool) -> None:
    queued = " and ".join(
        f"{count(len(one.enqueued), 'call')} queued from {begin_at}"
        for begin_at, one in done.items()
    )
    console().print(f"{queued}; earlier runs are kept.")
    skipped = sum(len(one.skipped) for one in done.values())
    if skipped:
        print_note(
            f"{count(skipped, 'call')} left out: no transcript to analyze; use --from transcribe"
        )
    if any(one.enqueued for one in done.values()) and not answered:
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
