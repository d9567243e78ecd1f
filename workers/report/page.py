"""The report as one HTML page that needs nothing else: no script, no font, no picture from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from workers.readable import clock, count, moment, percent, words
from workers.report.charts import render_charts
from workers.report.figures import Figures, ScoredCall

_STYLE = "page.css"
_Cells = Sequence[tuple[str, str]]  # class of the cell, its HTML


def render_page(figures: Figures) -> str:
    """The whole page. Text from calls is escaped wherever it stands."""
    body = [
        _header(figures),
        _tiles(figures),
        render_charts(figures),
        _hot_leads(figures),
        _sentiment_falls(figures),
        _agents(figures),
        _calls(figures),
        _failures(figures),
        _footer(),
    ]
    style = files(__package__).joinpath(_STYLE).read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Aftercall report</title><style>{style}</style></head>\n"
        f"<body>{chr(10).join(filter(None, body))}</body></html>\n"
    )


def _header(figures: Figures) -> str:
    period = figures.period
    if period.since is None and period.until is None:
        told = "All calls"
    else:
        first = "the first call" if period.since is None else moment(period.since)
        last = "now" if period.until is None else moment(period.until)
        told = f"Calls from {first} to {last}"
    return (
        f"<header><h1>Calls, scored</h1><p>{escape(told)} · times in UTC · "
        f"made {moment(figures.made_at)} by Aftercall</p></header>"
    )


def _tiles(figures: Figures) -> str:
    overview = figures.overview
    score = "–" if overview.mean_lead_score is None else f"{overview.mean_lead_score:.0f}"
    scored = ["scored"]
    if unusable := overview.rejected + overview.failed:
        scored.append(f"{unusable:,} unusable")
    if overview.in_progress:
        scored.append(f"{overview.in_progress:,} to come")
    tiles = [
        (f"{overview.calls:,}", f"calls, {overview.minutes:,.0f} minutes"),
        (f"{overview.scored:,}", ", ".join(scored)),
        (percent(overview.booked_rate), f"booked ({overview.booked:,} calls)"),
        (f"{overview.hot_leads:,}", "hot leads"),
        (score, "mean lead score, of 100"),
        (f"{overview.sentiment_fell:,}", "callers' moods fell"),
    ]
    inner = "".join(
        f'<section class="tile"><b>{value}</b><span>{label}</span></section>'
        for value, label in tiles
    )
    return f'<div class="tiles">{inner}</div>'


def _hot_leads(figures: Figures) -> str:
    rows = [
        [
            ("number", str(lead.call_id)),
            ("", _text(lead.caller_name)),
            ("name", _text(lead.service or words(lead.intent))),
            ("number hot", f"<b>{lead.lead_score}</b>"),
            ("text", _text(", ".join(lead.lead_reasons))),
            ("text", _text(lead.next_step)),
            ("", f"{moment(lead.started_at)}"),
        ]
        for lead in figures.hot_leads
    ]
    columns = ["#call", "caller", "wants", "#score", "why", "next step", "when"]
    return _section("Hot leads", "Best first: call these back.", columns, rows)


def _sentiment_falls(figures: Figures) -> str:
    rows = [
        [
            ("number", str(fall.call_id)),
            ("", _text(fall.agent_id)),
            ("", _mood(fall.sentiment_start, fall.sentiment_end)),
            ("", _text(words(fall.outcome))),
            ("text", _text(fall.summary)),
            ("", f"{moment(fall.started_at)}"),
        ]
        for fall in figures.sentiment_falls
    ]
    columns = ["#call", "agent", "mood", "outcome", "what happened", "when"]
    return _section("Moods that fell", "Callers who left unhappier than they came.", columns, rows)


def _agents(figures: Figures) -> str:
    rows = [
        [
            ("", _text(agent.agent_id or "not told")),
            ("number", f"{agent.calls:,}"),
            ("number", f"{agent.booked:,}"),
            ("number", percent(agent.booked_rate)),
            ("number", f"{agent.hot_leads:,}"),
            ("number", _number(agent.mean_lead_score, 0)),
            ("number", f"{agent.sentiment_fell:,}"),
            ("number", percent(agent.mean_agent_talk_share)),
            ("number", _seconds(agent.median_response_gap_ms)),
            ("number", _number(agent.mean_interruptions_agent, 1)),
            ("number", _seconds(agent.mean_non_talk_time_ms)),
        ]
        for agent in figures.agents
    ]
    columns = ["agent", "#calls", "#booked", "#rate", "#hot leads", "#lead score", "#mood fell"]
    columns += ["#talk share", "#answers after", "#cuts in", "#dead air"]
    return _section("Agents", "Per call, where it is not a count.", columns, rows)


def _calls(figures: Figures) -> str:
    shown = figures.newest_calls
    note = f"The newest {len(shown):,} of {figures.overview.calls:,}."
    columns = ["#call", "id", "agent", "when", "#length", "#lead", "mood", "outcome", "summary"]
    return _section("Calls", note, columns, [_call(call) for call in shown])


def _call(call: ScoredCall) -> _Cells:
    score = "–" if call.lead_score is None else str(call.lead_score)
    if call.status != "scored":
        outcome = _chip(call.status, call.status)
    elif call.outcome is None:
        outcome = '<span class="none">nobody speaks</span>'
    else:
        outcome = _text(words(call.outcome))
    if call.verdict not in (None, "ok"):
        outcome += " " + _chip("verdict", words(call.verdict))
    return [
        ("number", str(call.call_id)),
        ("name", _text(call.external_id)),
        ("", _text(call.agent_id)),
        ("", moment(call.started_at)),
        ("number", clock(call.duration_ms)),
        (f"number {call.lead_tier or ''}", score),
        ("", _mood(call.sentiment_start, call.sentiment_end)),
        ("result", outcome),
        ("text", _text(call.summary or call.reason)),
    ]


def _failures(figures: Figures) -> str:
    rows = [
        [
            ("number", str(failure.call_id)),
            ("name", _text(failure.external_id)),
            ("", _chip(failure.status, failure.status)),
            ("", _text(words(failure.verdict or failure.error_class))),
            ("text", _text(failure.reason)),
            ("", moment(failure.failed_at)),
        ]
        for failure in figures.failures
    ]
    columns = ["#call", "id", "status", "what", "reason", "since"]
    note = f"{count(len(rows), 'call')}, newest first."
    return _section("Calls that need a person", note, columns, rows)


def _footer() -> str:
    return (
        "<footer>Booked rate is over calls with an outcome to reach. A lead score is a rule's sum over what the caller "
        "said, 0 to 100; it is empty where there is nothing to sell. Mood is the caller's, at the start and at the end "
        "of the call. Dead air counts silences of more than three seconds. Each value's evidence and confidence: "
        "<code>aftercall show CALL</code>.</footer>"
    )


def _section(title: str, note: str, columns: Iterable[str], rows: Sequence[_Cells]) -> str:
    """A table, or nothing when it would be empty. Names of columns with numbers begin with #."""
    if not rows:
        return ""
    head = "".join(
        f'<th class="number">{name[1:]}</th>' if name.startswith("#") else f"<th>{name}</th>"
        for name in columns
    )
    lines = "".join(
        "<tr>" + "".join(f'<td class="{kind}">{cell}</td>' for kind, cell in row) + "</tr>"
        for row in rows
    )
    return (
        f'<section class="wide"><h2>{title}</h2><p class="note">{note}</p>'
        f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></section>"
    )


def _text(value: str | None) -> str:
    return '<span class="none">–</span>' if not value else escape(value)


def _chip(kind: str, label: str) -> str:
    return f'<span class="chip {kind}">{label}</span>'


def _mood(start: str | None, end: str | None) -> str:
    if start is None or end is None:
        return _text(None)
    last = f'<span class="{end}">{words(end)}</span>'
    return last if start == end else f"{words(start)} → {last}"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _seconds(ms: float | None) -> str:
    return "–" if ms is None else f"{ms / 1000:.1f} s"
