"""`aftercall ingest`: record calls; workers do the rest."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from db.enums import Direction
from workers.cli.errors import EXIT_FAILED
from workers.cli.store import open_store, wake_workers
from workers.console import console, print_json, print_note
from workers.ingest.details import CallDetails, DetailsError, parse_details
from workers.ingest.gather import gather
from workers.ingest.intake import BAD_OUTCOMES, Outcome, Taken, take_in
from workers.local.servers import Urls
from workers.readable import count

_STYLES: dict[Outcome, str] = {
    "created": "green",
    "recovered": "green",
    "known": "dim",
    "duplicate": "dim",
    "rejected": "yellow",
    "conflict": "red",
    "failed": "red",
}
# In the order in which a summary reads well.
_SUMMARY: dict[Outcome, str] = {
    "created": "recorded",
    "recovered": "recovered",
    "known": "already known",
    "duplicate": "the same bytes as another call",
    "rejected": "recorded as unusable",
    "conflict": "in conflict with a recorded call",
    "failed": "with a problem",
}


def command(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH…",
            help="Files, folders (with all below), quoted globs, or s3://, gs://, az:// addresses.",
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(help="CSV with a row per call; without PATH its recordings are taken."),
    ] = None,
    source: Annotated[
        str, typer.Option(help="Where the calls come from; external ids are unique within it.")
    ] = "local",
    external_id: Annotated[
        str | None,
        typer.Option(help="The call's id at its source. Default: path without extension."),
    ] = None,
    agent_id: Annotated[str | None, typer.Option(help="The voice agent on these calls.")] = None,
    agent_version: Annotated[str | None, typer.Option(help="Its version.")] = None,
    agent_channel: Annotated[
        int | None, typer.Option(min=0, max=1, help="The channel that carries the agent.")
    ] = None,
    direction: Annotated[Direction | None, typer.Option(help="Who called whom.")] = None,
    started_at: Annotated[
        str | None, typer.Option(metavar="ISO-8601", help="When the calls began; UTC if no zone.")
    ] = None,
    campaign: Annotated[str | None, typer.Option(help="A label to report by.")] = None,
    metadata: Annotated[
        str | None, typer.Option(metavar="JSON", help="An object that is kept with the calls.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per input, then one for all.")
    ] = False,
) -> None:
    """Record calls from recordings, each exactly once, and queue them to be scored.

    Ends with exit code 1 when an input could not be recorded as a call; all others are.
    """
    if not paths and manifest is None:
        raise typer.BadParameter("give at least one PATH, or --manifest")
    if not source.strip():
        raise typer.BadParameter("--source must not be empty")
    defaults = _details(
        external_id=external_id,
        agent_id=agent_id,
        agent_version=agent_version,
        agent_channel=agent_channel,
        direction=direction,
        started_at=started_at,
        campaign=campaign,
        metadata=metadata,
    )
    gathered = gather(paths or [], manifest)
    if external_id is not None and len(gathered.inputs) != 1:
        raise typer.BadParameter(
            f"--external-id names one call, but {count(len(gathered.inputs), 'input')} were given"
        )
    counts: Counter[Outcome] = Counter()
    with open_store() as store, _reporter(len(gathered.inputs), as_json=as_json) as tell:
        wake = _Waker(store.urls)
        for taken in take_in(store.database, gathered.inputs, source=source, defaults=defaults):
            counts[taken.outcome] += 1
            tell(taken)
            wake.after(taken)
        answered = wake.at_the_end()
    _tell_summary(counts, gathered.num_skipped, as_json=as_json)
    if gathered.num_unmatched_rows:
        rows = count(gathered.num_unmatched_rows, "row")
        print_note(f"{rows} of the manifest met no recording among the paths")
    if answered is False:
        print_note(_why_they_wait(store.urls))
    if BAD_OUTCOMES & counts.keys():
        raise typer.Exit(EXIT_FAILED)


def _details(**options: object) -> CallDetails:
    try:
        return parse_details(options)
    except DetailsError as error:
        raise typer.BadParameter(f"--{str(error).replace('_', '-', 1)}") from error


class _Waker:
    """Wakes workers at the first new call, so that they begin, and after the last, so that they look once more."""

    def __init__(self, urls: Urls) -> None:
        self._urls = urls
        self._num_unannounced = 0
        self._answered: bool | None = None

    def after(self, taken: Taken) -> None:
        if not taken.wants_work:
            return
        self._num_unannounced += 1
        if self._answered is None:
            self._wake()

    def at_the_end(self) -> bool | None:
        """Whether the broker answered; None when there was nothing to tell."""
        if self._answered and self._num_unannounced:
            self._wake()
        return self._answered

    def _wake(self) -> None:
        self._answered = wake_workers(self._urls, "transcribe")
        self._num_unannounced = 0


def _why_they_wait(urls: Urls) -> str:
    if urls.broker is None:
        return "recorded; `aftercall up` runs the workers that score them"
    return "the broker does not answer; the calls are recorded and run when it returns"


@contextmanager
def _reporter(total: int, *, as_json: bool) -> Iterator[Callable[[Taken], None]]:
    """How each input is told: a JSON line, a line of text, or a bar with lines for what went wrong."""
    out = console()
    if as_json:
        yield lambda taken: print_json({"event": "input", **asdict(taken)})
    elif not out.is_terminal:
        yield lambda taken: out.print(_line(taken), soft_wrap=True)
    else:
        columns = (TextColumn("Ingesting"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), console=out, transient=True) as progress:
            task = progress.add_task("", total=total)

            def tell(taken: Taken) -> None:
                if taken.message is not None:
                    progress.console.print(_line(taken))
                progress.advance(task)

            yield tell


def _line(taken: Taken) -> Text:
    call = "" if taken.call_id is None else str(taken.call_id)
    line = Text.assemble(
        (f"{taken.outcome:<9}", _STYLES[taken.outcome]), f" {call:>6}  {_short(taken.where)}"
    )
    if taken.message is not None:
        line.append(f"  {taken.message}", style="dim")
    return line


def _short(where: str) -> str:
    """A path as the person probably gave it: relative when it lies below the current folder."""
    if not os.path.isabs(where):
        return where
    relative = os.path.relpath(where)
    return where if relative.startswith("..") else relative


def _tell_summary(counts: Counter[Outcome], num_skipped: int, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "event": "summary",
                **{name: counts[name] for name in _SUMMARY},
                "skipped": num_skipped,
            }
        )
        return
    parts = [
        Text(f"{counts[name]:,} {phrase}", style=_STYLES[name])
        for name, phrase in _SUMMARY.items()
        if counts[name]
    ]
    if num_skipped:
        parts.append(Text(f"{count(num_skipped, 'other file')} left alone", style="dim"))
    console().print(Text(", ").join(parts or [Text("nothing to ingest", style="dim")]))
