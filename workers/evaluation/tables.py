"""Evaluation results for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import RenderableType

from analytics.evaluation import Estimate
from workers.console import table, titled
from workers.evaluation.report import EvaluationReport
from workers.evaluation.steps import COMPARED, StepsRow
from workers.evaluation.text import SetReport
from workers.readable import span


@dataclass(frozen=True, slots=True)
class Row:
    """How a measure is shown: its label, and what it is multiplied by."""

    label: str
    scale: float = 100.0


TEXT_ROWS: Final = {
    "accuracy.enums": Row("all enum fields"),
    "accuracy.lead_score.intent": Row("intent"),
    "accuracy.summary.outcome": Row("outcome"),
    "accuracy.sentiment.overall": Row("sentiment"),
    "macro_f1.sentiment.overall": Row("sentiment, macro-F1"),
    "lead.tier_accuracy": Row("lead tier"),
    "lead.mae": Row("lead error, points", 1.0),
    "lead.rank_correlation": Row("lead rank correlation"),
    "entity_recall": Row("entity recall"),
    "entity_recall.name": Row("… name"),
    "entity_recall.service": Row("… service"),
    "entity_recall.appointment": Row("… appointment"),
    "entity_recall.price": Row("… price"),
    "evidence_precision": Row("evidence precision"),
    "evidence_recall": Row("evidence recall"),
    "unsupported_claims": Row("unsupported claims"),
    "rouge_l.summary": Row("summary, ROUGE-L"),
    "exact.summary": Row("summary, exact"),
    "effort.steps_per_call": Row("steps per call", 1.0),
    "effort.tokens_per_forward": Row("tokens per forward", 1.0),
}
SPEECH_ROWS: Final = {
    "wer": Row("word error rate"),
    "digit_error": Row("words with digits, missed"),
    "name_error": Row("names, missed"),
    "invented_words": Row("words invented per minute", 1.0),
    "speed": Row("times real time", 1.0),
}


def tables(report: EvaluationReport) -> list[RenderableType]:
    """One table for each part that was measured."""
    made = []
    if report.text:
        made.append(sets_table("Records, from text", report.text, TEXT_ROWS))
    if report.steps:
        made.append(steps_table(report.steps))
    spoken = [heard for heard in report.speech if "wer" in heard.estimates]
    wordless = [heard for heard in report.speech if "wer" not in heard.estimates]
    if spoken:
        made.append(sets_table("Speech", spoken, SPEECH_ROWS))
    if wordless:
        made.append(sets_table("Where nobody speaks", wordless, SPEECH_ROWS))
    if report.end_to_end:
        made.append(sets_table("Records, from audio", report.end_to_end, TEXT_ROWS))
    return made


def sets_table(title: str, reports: Sequence[SetReport], rows: Mapping[str, Row]) -> RenderableType:
    """Measures by set: percent unless the row says otherwise, with half the width of the 95 % interval."""
    names = [report.name for report in reports]
    made = table(["", *names], right=names)
    made.add_row("calls", *(f"{report.num_calls:,}" for report in reports), style="dim")
    for key, row in rows.items():
        if any(key in report.estimates for report in reports):
            cells = [_cell(report.estimates.get(key), row) for report in reports]
            made.add_row(row.label, *cells)
    times = [span(report.seconds / max(report.num_calls, 1)) for report in reports]
    made.add_row("time per call", *times, style="dim")
    return titled(f"{title} (%, ± half of the 95 % interval)", made)


def steps_table(rows: Sequence[StepsRow]) -> RenderableType:
    """Quality against steps; quality as the difference from one token per step, in points of a hundred."""
    effort = ["effort.steps_per_call", "effort.tokens_per_forward"]
    by_kind = {key for row in rows for key in row.estimates if key.startswith(f"{effort[1]}.")}
    names = ["one token" if row.threshold is None else f"{row.threshold:g}" for row in rows]
    made = table(["", *names], right=names)
    for key in [*effort, *sorted(by_kind)]:
        shown = TEXT_ROWS.get(key) or Row(f"… in {key.rpartition('.')[2]} slots", 1.0)
        made.add_row(shown.label, *(_plain(row.estimates.get(key), shown) for row in rows))
    for key in COMPARED:
        shown = TEXT_ROWS[key]
        cells = [
            _cell(row.differences[key], shown, sign=True)
            if row.differences
            else _plain(row.estimates.get(key), shown)
            for row in rows
        ]
        made.add_row(shown.label, *cells)
    times = [span(row.seconds / max(row.num_calls, 1)) for row in rows]
    made.add_row("time per call", *times, style="dim")
    return titled("By commit threshold: quality as the difference from one token per step", made)


def _plain(estimate: Estimate | None, row: Row) -> str:
    if estimate is None or estimate.value is None:
        return "–"
    return f"{estimate.value * row.scale:.1f}"


def _cell(estimate: Estimate | None, row: Row, *, sign: bool = False) -> str:
    if estimate is None or estimate.value is None or estimate.low is None or estimate.high is None:
        return "–"
    value = f"{estimate.value * row.scale:{'+' if sign else ''}.1f}"
    return f"{value} ±{(estimate.high - estimate.low) / 2 * row.scale:.1f}"
