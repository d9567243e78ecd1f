"""One call as a person would read it: who and when, what was said, what was made of it, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from analytics.evidence import TURN_SUFFIX
from analytics.scorecards import BUILT_IN
from analytics.talk_metrics import TalkMetrics
from analytics.transcript import Transcript
from db.repository.records import ScoredLead, StoredEvidence
from db.repository.show import CallShown, RecordingShown, RunShown
from db.repository.transcripts import StoredTranscript
from workers.readable import clock, moment, percent, size, span, words

ROLE_STYLES = {"agent": "cyan", "caller": "magenta", "unknown": "blue"}
STATUS_STYLES = {"scored": "green", "rejected": "yellow", "failed": "red"}
# Below this the model is guessing often enough that a person should read the turn.
UNSURE_BELOW = 0.6
_QUOTE_CHARACTERS = 70


def render_call(call: CallShown) -> Group:
    """The whole call, top to bottom."""
    parts: list[RenderableType] = [_header(call)]
    transcript = call.transcript.transcript if call.transcript is not None else None
    if call.metrics is not None and transcript is not None and not transcript.is_empty:
        parts += [_heading("Talk"), _indented(_talk(call.metrics))]
    if transcript is not None:
        parts += [_heading("Transcript"), _indented(_turns(transcript))]
    for run in sorted((run for run in call.runs if run.is_current), key=_place):
        parts += [_heading(_title(run)), _indented(_record(run, call.transcript))]
    rest = [run for run in call.runs if not run.is_current]
    if rest:
        parts += [_heading("Other runs"), _indented(_other_runs(rest))]
    return Group(*parts)


def _header(call: CallShown) -> RenderableType:
    title = Text.assemble(
        (f"Call {call.call_id}", "bold"),
        f"  {call.external_id}  ",
        (f"from {call.source}", "dim"),
        "  ",
        (call.status, STATUS_STYLES.get(call.status, "cyan")),
    )
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim")
    rows.add_column(overflow="fold")
    for name, value in _facts(call):
        rows.add_row(name, value)
    return Group(title, _indented(rows))


def _facts(call: CallShown) -> Iterator[tuple[str, str]]:
    if call.reason:
        yield "reason", call.reason
    agent = " ".join(filter(None, (call.agent_id, call.agent_version)))
    direction = "direction unknown" if call.direction == "unknown" else call.direction
    yield "agent", f"{agent or 'not told'}, {direction}"
    if call.started_at is not None:
        yield "started", f"{moment(call.started_at)} UTC"
    else:
        yield "ingested", f"{moment(call.created_at)} UTC (its start was not told)"
    if call.recording is not None:
        yield "recording", call.recording.uri
        yield "verdict", _verdict(call.recording)
    if call.campaign:
        yield "campaign", call.campaign
    if call.end_reason:
        yield "ended", call.end_reason
    for name, value in call.metadata.items():
        yield name, str(value)


def _verdict(recording: RecordingShown) -> str:
    verdict = words(recording.verdict) if recording.verdict else "not judged yet"
    if recording.verdict_detail:
        verdict += f" ({recording.verdict_detail})"
    facts = [
        clock(recording.duration_ms) if recording.duration_ms is not None else None,
        recording.codec,
        f"{recording.sample_rate / 1000:g} kHz" if recording.sample_rate else None,
        {1: "mono", 2: "stereo"}.get(recording.channels or 0),
        size(recording.size_bytes) if recording.size_bytes is not None else None,
    ]
    return ", ".join([verdict, *filter(None, facts)])


def _talk(metrics: TalkMetrics) -> RenderableType:
    def seconds(ms: int | None) -> str:
        return span(None if ms is None else ms / 1000)

    def speed(words_per_minute: float | None) -> str:
        return "–" if words_per_minute is None else f"{words_per_minute:.0f} words/min"

    rows = Table.grid(padding=(0, 3))
    rows.add_row("", Text("agent", style="cyan"), Text("caller", style="magenta"))
    rows.add_row(
        Text("talks for", style="dim"),
        seconds(metrics.talk_time_agent_ms),
        seconds(metrics.talk_time_caller_ms),
    )
    rows.add_row(
        Text("at", style="dim"),
        speed(metrics.talk_speed_agent_wpm),
        speed(metrics.talk_speed_caller_wpm),
    )
    rows.add_row(
        Text("cuts in", style="dim"),
        f"{metrics.interruptions_agent_count} ×",
        f"{metrics.interruptions_caller_count} ×",
    )
    line = Text.assemble(
        ("agent answers after ", "dim"),
        seconds(metrics.agent_response_gap_p50_ms),
        (" (median), ", "dim"),
        seconds(metrics.agent_response_gap_p95_ms),
        (" (95 %); dead air ", "dim"),
        seconds(metrics.non_talk_time_total_ms),
    )
    return Group(rows, line)


def _turns(transcript: Transcript) -> RenderableType:
    if transcript.is_empty:
        return Text("Nobody speaks.", style="dim")
    rows = Table.grid(padding=(0, 2))
    rows.add_column(justify="right", style="dim")
    rows.add_column(justify="right", style="dim")
    rows.add_column()
    rows.add_column(overflow="fold")
    for turn in transcript.turns:
        style = ROLE_STYLES[turn.role]
        unsure = "italic" if turn.confidence < UNSURE_BELOW else ""
        rows.add_row(
            str(turn.number),
            clock(turn.start_ms),
            Text("?" if turn.role == "unknown" else turn.role, style=style),
            Text(turn.text, style=unsure),
        )
    return rows


def _place(run: RunShown) -> tuple[int, str]:
    """The built-in records in their order, then a team's own by name."""
    names = [card.name for card in BUILT_IN]
    return (names.index(run.scorecard) if run.scorecard in names else len(names), run.scorecard)


def _title(run: RunShown) -> str:
    name = words(run.scorecard).capitalize()
    if isinstance(run.result, ScoredLead):
        points = "" if run.result.score is None else f"{run.result.score} of 100, "
        return f"{name}: {points}{run.result.tier}"
    return name


def _record(run: RunShown, newest: StoredTranscript | None) -> RenderableType:
    if run.result is None:
        return Text(words(run.status).capitalize() + ".", style="dim")
    evidence = {item.field: item for item in run.evidence}
    # in another transcript the same numbers are other turns
    transcript = newest.transcript if newest and newest.id == run.transcript_id else None
    parts: list[RenderableType] = []
    fields = record_fields(run.result)
    if isinstance(run.result, ScoredLead) and run.result.reasons:
        parts.append(Text("; ".join(run.result.reasons).capitalize() + "."))
    if isinstance(fields.get("summary"), str):
        parts.append(Text(fields.pop("summary")))
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim")
    rows.add_column(overflow="fold", max_width=34)
    rows.add_column(justify="right")
    quotes = {name: _quote(evidence.get(name), transcript) for name in fields}
    # Rich measures a column of nothing but empty cells too narrow, and takes the difference from its neighbours.
    if any(quotes.values()):
        rows.add_column(overflow="fold", style="dim")
    for name, value in fields.items():
        told = (words(name), _value(value), _confidence(evidence.get(name)), quotes[name])
        rows.add_row(*told[: len(rows.columns)])
    return Group(*parts, rows)


def record_fields(result: object) -> dict[str, Any]:
    """The fields of a record that say something about the call, in their order; cited turns are not among them."""
    if isinstance(result, ScoredLead):
        result = result.features
    values: Mapping[str, Any] = result.model_dump() if isinstance(result, BaseModel) else result  # type: ignore[assignment]
    return {name: value for name, value in values.items() if not name.endswith(TURN_SUFFIX)}


def _value(value: object) -> Text:
    if value is None:
        return Text("–", style="dim")
    if value in ("unknown", "not_applicable"):
        return Text(words(str(value)), style="dim")
    return Text(words(value) if isinstance(value, str) and " " not in value else str(value))


def _confidence(support: StoredEvidence | None) -> Text:
    if support is None or support.confidence is None:
        return Text("")
    return Text(
        percent(support.confidence), style="yellow" if support.confidence < UNSURE_BELOW else "dim"
    )


def _quote(support: StoredEvidence | None, transcript: Transcript | None) -> Text:
    """The turn that supports a value; without the run's own transcript only when it was."""
    if support is None:
        return Text("")
    if support.status == "unknown_turn":
        return Text("cited a turn that does not exist", style="yellow")
    if support.turn_number is None or support.start_ms is None:
        return Text("")
    if transcript is None:
        return Text(f"{clock(support.start_ms)} in an earlier transcript")
    turn = transcript.turn(support.turn_number)
    said = (
        turn.text
        if len(turn.text) <= _QUOTE_CHARACTERS
        else turn.text[: _QUOTE_CHARACTERS - 1].rstrip() + "…"
    )
    return Text(f"{clock(turn.start_ms)} “{said}”")


def _other_runs(runs: list[RunShown]) -> RenderableType:
    rows = Table.grid(padding=(0, 2))
    for run in runs:
        rows.add_row(
            Text(f"run {run.run_id}", style="dim"),
            f"{run.scorecard} v{run.scorecard_version}",
            Text(run.status, style="red" if run.status in ("invalid", "failed") else "dim"),
            moment(run.created_at),
            Text(run.error or f"fingerprint {run.fingerprint[:12]}", style="dim", overflow="fold"),
        )
    return rows


def _heading(title: str) -> Text:
    return Text(f"\n{title}", style="bold")


def _indented(inner: RenderableType) -> Padding:
    return Padding(inner, (0, 0, 0, 2), expand=False)
