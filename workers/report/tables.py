"""The main tables, for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from db.repository.reports import AgentRow, Failure, HotLead, Overview, SentimentFall, ValueRow
from workers.console import table, titled
from workers.readable import clock, count, moment, percent, span, words
from workers.report.call import STATUS_STYLES
from workers.report.figures import Figures, ScoredCall

TIER_STYLES = {"hot": "bold red", "warm": "yellow", "cold": "dim", "none": "dim"}
MOOD_STYLES = {"positive": "green", "negative": "red"}
_BAR_WIDTH = 24
_MAX_ID_WIDTH = 32
_GAP = 2
_NUM_ROWS = 10  # of a list that a screen should not scroll away for; the page has more


def render_report(figures: Figures) -> Group:
    """Overview, outcomes, agents, hot leads, moods that fell, and what needs a person; empty tables are left out."""
    parts: list[RenderableType] = [render_overview(figures.overview)]
    if figures.outcomes:
        parts.append(_values("Outcomes", "outcome", figures.outcomes))
    if figures.intents:
        parts.append(_values("Why callers called", "intent", figures.intents))
    if figures.agents:
        parts.append(_agents(figures.agents))
    if figures.hot_leads:
        parts.append(_hot_leads(figures.hot_leads[:_NUM_ROWS]))
    if figures.sentiment_falls:
        parts.append(_sentiment_falls(figures.sentiment_falls[:_NUM_ROWS]))
    if figures.failures:
        parts.append(_failures(figures.failures[:_NUM_ROWS]))
    return Group(*parts)


def render_overview(overview: Overview) -> RenderableType:
    """Two lines that say how it stands."""
    states = [
        (overview.scored, "scored"),
        (overview.rejected, "rejected"),
        (overview.failed, "failed"),
        (overview.in_progress, "in progress"),
    ]
    told = ", ".join(f"{number:,} {state}" for number, state in states if number)
    first = Text.assemble(
        (count(overview.calls, "call"), "bold"),
        f", {overview.minutes:,.0f} minutes" + (f": {told}" if told else ""),
    )
    score = "–" if overview.mean_lead_score is None else f"{overview.mean_lead_score:.0f}"
    second = (
        f"{overview.booked:,} booked ({percent(overview.booked_rate)}), "
        f"{count(overview.hot_leads, 'hot lead')}, mean lead score {score}, "
        f"mood fell in {count(overview.sentiment_fell, 'call')}"
    )
    return Group(first, Text(second))


class TwoLines:
    """A list whose rows are a line of cells and a line of text under it: a table would leave the text no room."""

    def __init__(self, columns: Mapping[str, int], *, right: Collection[str]) -> None:
        """`columns` are names and widths; the last column takes the rest of the line."""
        self._columns = columns
        self._right = frozenset(right)
        (first, width), *_, (self._last, _) = columns.items()
        self._indent = max(len(first), width) + _GAP

    def header(self) -> RenderableType:
        """The columns' names."""
        return Group(
            self._line([Text(name, style="dim") for name in self._columns]), Rule(style="")
        )

    def row(self, cells: Sequence[Text], below: Text) -> RenderableType:
        """One row."""
        line = self._line(cells)
        return Group(line, Padding(below, (0, 0, 0, self._indent))) if below else line

    def _line(self, cells: Sequence[Text]) -> RenderableType:
        line = Table.grid(padding=(0, _GAP, 0, 0))
        for name, width in self._columns.items():
            line.add_column(
                width=None if name == self._last else max(len(name), width),
                justify="right" if name in self._right else "left",
                no_wrap=True,
            )
        line.add_row(*cells)
        return line


class CallList:
    """Calls as they come in: what was found, and the summary. Columns line up whatever comes later."""

    def __init__(self, external_ids: Sequence[str]) -> None:
        """`external_ids` are those of all calls that may come."""
        columns = {
            "call": 0,
            "external id": _id_width(external_ids),
            "length": 0,
            "lead": len("100 warm"),
            "mood": len("negative → positive"),
            "outcome": 0,
        }
        self._rows = TwoLines(columns, right=("call", "length"))

    def header(self) -> RenderableType:
        """The columns' names."""
        return self._rows.header()

    def row(self, call: ScoredCall) -> RenderableType:
        """One call."""
        found = [
            Text(str(call.call_id), style="dim"),
            Text(call.external_id, style="bold"),
            Text(clock(call.duration_ms), style="dim"),
            lead(call.lead_score, call.lead_tier),
            mood(call.sentiment_start, call.sentiment_end),
            _result(call),
        ]
        told = call.summary or call.reason or ""
        return self._rows.row(found, Text(told, style="" if call.summary else "dim"))


def _id_width(external_ids: Sequence[str]) -> int:
    return min(max(map(cell_len, external_ids), default=0), _MAX_ID_WIDTH)


def lead(score: int | None, tier: str | None) -> Text:
    """`82 hot`, coloured by tier; a dash while there is none."""
    if tier is None:
        return Text("–", style="dim")
    return Text(tier if score is None else f"{score} {tier}", style=TIER_STYLES.get(tier, ""))


def mood(start: str | None, end: str | None) -> Text:
    """From where to where the caller's mood went."""
    if start is None or end is None:
        return Text("–", style="dim")
    if start == end:
        return Text(words(end), style=MOOD_STYLES.get(end, ""))
    return Text.assemble(f"{words(start)} → ", (words(end), MOOD_STYLES.get(end, "")))


def _result(call: ScoredCall) -> Text:
    """The outcome, or how far the call came, and what the media guard found where that is news."""
    if call.outcome is not None:
        result = Text(words(call.outcome))
    else:
        status = "nobody speaks" if call.status == "scored" else call.status
        result = Text(status, style=STATUS_STYLES.get(call.status, "cyan"))
    if call.verdict not in (None, "ok"):
        result.append(f"  {words(call.verdict)}", style="yellow")
    return result


def _values(title: str, column: str, rows: Sequence[ValueRow]) -> RenderableType:
    shown = table(
        [column, "calls", "share", "", "mean lead score"],
        right=["calls", "share", "mean lead score"],
    )
    longest = max(row.share for row in rows)
    for row in rows:
        bar = "█" * max(1, round(_BAR_WIDTH * row.share / longest))
        score = "" if row.mean_lead_score is None else f"{row.mean_lead_score:.0f}"
        shown.add_row(
            words(row.value), f"{row.calls:,}", percent(row.share), Text(bar, "cyan"), score
        )
    return titled(title, shown)


def _agents(rows: Sequence[AgentRow]) -> RenderableType:
    columns = ["calls", "booked", "hot leads", "lead score", "mood fell", "talks", "answers after"]
    shown = table(["agent", *columns], right=columns)
    for row in rows:
        gap = row.median_response_gap_ms
        shown.add_row(
            row.agent_id or "not told",
            f"{row.calls:,}",
            f"{row.booked:,} ({percent(row.booked_rate)})",
            f"{row.hot_leads:,}",
            "–" if row.mean_lead_score is None else f"{row.mean_lead_score:.0f}",
            f"{row.sentiment_fell:,}",
            percent(row.mean_agent_talk_share),
            span(None if gap is None else gap / 1000),
        )
    return titled("Agents", shown)


def _hot_leads(rows: Sequence[HotLead]) -> RenderableType:
    shown = table(
        ["call", "score", "who", "wants", "why", "next step"],
        right=["call", "score"],
    )
    for row in rows:
        shown.add_row(
            str(row.call_id),
            Text(str(row.lead_score), style=TIER_STYLES["hot"]),
            row.caller_name or "–",
            row.service or words(row.intent),
            ", ".join(row.lead_reasons),
            row.next_step or "–",
        )
    return titled("Hot leads", shown)


def _sentiment_falls(rows: Sequence[SentimentFall]) -> RenderableType:
    shown = table(["call", "agent", "mood", "outcome", "summary"], right=["call"])
    for row in rows:
        shown.add_row(
            str(row.call_id),
            row.agent_id or "–",
            mood(row.sentiment_start, row.sentiment_end),
            words(row.outcome),
            row.summary or "",
        )
    return titled("Callers whose mood fell", shown)


def _failures(rows: Sequence[Failure]) -> RenderableType:
    columns = {
        "call": 0,
        "external id": _id_width([row.external_id for row in rows]),
        "status": len("rejected"),
        "since (UTC)": len(moment(rows[0].failed_at)),
        "what": 0,
    }
    shown = TwoLines(columns, right=("call",))
    lines = [
        shown.row(
            [
                Text(str(row.call_id), style="dim"),
                Text(row.external_id, style="bold"),
                Text(row.status, style=STATUS_STYLES.get(row.status, "")),
                Text(moment(row.failed_at), style="dim"),
                Text(words(row.verdict or row.error_class)),
            ],
            Text(row.reason or "", style="dim"),
        )
        for row in rows
    ]
    return titled("Calls that need a person", Group(shown.header(), *lines))
