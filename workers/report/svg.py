"""Charts as inline SVG: plain shapes whose colours come from the page's style sheet, so that they follow its theme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 520
FULL_WIDTH = 1090  # of a chart that has a row of the page to itself
_ROW = 30
_LABEL_WIDTH = 130
_VALUE_WIDTH = 92


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its length is `value`; `text` stands at its end; `kind` is the style sheet's name for its colour."""

    label: str
    value: float
    text: str
    kind: str = "accent"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch from `low` to `high` on one row, such as a median and a 95th percentile."""

    label: str
    low: float
    high: float
    text: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One field of a grid; `strength` between 0 and 1 is how strongly it is coloured."""

    text: str
    strength: float
    kind: str
    title: str


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars, the longest as wide as there is room."""
    longest = max((row.value for row in rows), default=0) or 1
    room = WIDTH - _LABEL_WIDTH - _VALUE_WIDTH
    shapes = []
    for i, row in enumerate(rows):
        y = i * _ROW
        width = max(2.0, room * row.value / longest)
        shapes += [
            _text(_LABEL_WIDTH - 10, y + 19, row.label, "end label"),
            _rect(_LABEL_WIDTH, y + 6, width, 18, row.kind, f"{row.label}: {row.text}"),
            _text(_LABEL_WIDTH + width + 8, y + 19, row.text, "value"),
        ]
    return _svg(title, len(rows) * _ROW, shapes)


def columns(
    title: str, rows: Sequence[Bar], *, width: int = WIDTH, height: int = 190, num_labels: int = 10
) -> str:
    """Vertical columns side by side, each with its number on top and its label below."""
    tallest = max((row.value for row in rows), default=0) or 1
    step = width / max(1, len(rows))
    floor = height - 26
    every = -(-len(rows) // num_labels)  # more labels would run into each other
    shapes = [_line(0, floor, width, floor)]
    for i, row in enumerate(rows):
        x, tall = i * step, (floor - 22) * row.value / tallest
        middle = x + step / 2
        if row.value:
            title_text = f"{row.label}: {row.text}"
            shapes.append(
                _rect(x + step * 0.12, floor - tall, step * 0.76, tall, row.kind, title_text)
            )
            if step >= 18:
                shapes.append(_text(middle, floor - tall - 6, row.text, "middle value"))
        if i % every == 0:
            shapes.append(_text(middle, height - 8, row.label, "middle label"))
    return _svg(title, height, shapes, width=width)


def spans(title: str, rows: Sequence[Span]) -> str:
    """Horizontal stretches with a dot at either end, on one scale that begins at zero."""
    longest = max((row.high for row in rows), default=0) or 1
    room = WIDTH - _LABEL_WIDTH - 120
    shapes = []
    for i, row in enumerate(rows):
        y = i * _ROW + 15
        low, high = (_LABEL_WIDTH + room * end / longest for end in (row.low, row.high))
        shapes += [
            _text(_LABEL_WIDTH - 10, y + 4, row.label, "end label"),
            f'<line class="span" x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}"/>',
            f'<circle class="accent" cx="{low:.1f}" cy="{y}" r="5"/>',
            f'<circle class="weak" cx="{high:.1f}" cy="{y}" r="5"/>',
            _text(high + 12, y + 4, row.text, "value"),
        ]
    return _svg(title, len(rows) * _ROW, shapes)


def shares(title: str, rows: Sequence[tuple[str, float]]) -> str:
    """One full-width bar per row, split at a fraction between 0 and 1."""
    room = WIDTH - _LABEL_WIDTH - _VALUE_WIDTH
    shapes = []
    for i, (label, fraction) in enumerate(rows):
        y, split = i * _ROW, room * fraction
        text = f"{100 * fraction:.0f} %"
        shapes += [
            _text(_LABEL_WIDTH - 10, y + 19, label, "end label"),
            _rect(_LABEL_WIDTH, y + 6, split, 18, "agent", f"{label}: {text}"),
            _rect(
                _LABEL_WIDTH + split, y + 6, room - split, 18, "caller", f"{label}: callers' share"
            ),
            _text(_LABEL_WIDTH + room + 8, y + 19, text, "value"),
        ]
    return _svg(title, len(rows) * _ROW, shapes)


def grid(
    title: str,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    cells: Sequence[Sequence[Cell]],
) -> str:
    """A table of coloured fields."""
    wide, tall, top = (WIDTH - _LABEL_WIDTH) / len(column_labels), 46, 28
    shapes = [
        _text(_LABEL_WIDTH + (j + 0.5) * wide, 18, label, "middle label")
        for j, label in enumerate(column_labels)
    ]
    for i, row in enumerate(cells):
        y = top + i * tall
        shapes.append(_text(_LABEL_WIDTH - 10, y + 27, row_labels[i], "end label"))
        for j, cell in enumerate(row):
            x = _LABEL_WIDTH + j * wide
            opacity = f'fill-opacity="{0.12 + 0.68 * cell.strength if cell.strength else 0.06:.2f}"'
            shapes.append(
                _rect(x + 2, y + 2, wide - 4, tall - 4, cell.kind, cell.title, extra=opacity)
            )
            shapes.append(_text(x + wide / 2, y + 28, cell.text, "middle strong"))
    return _svg(title, top + len(cells) * tall, shapes)


def _svg(title: str, height: float, shapes: Sequence[str], *, width: int = WIDTH) -> str:
    label = escape(title, quote=True)
    return f'<svg viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{label}">{"".join(shapes)}</svg>'


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="axis" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _rect(
    x: float, y: float, width: float, height: float, kind: str, title: str, *, extra: str = ""
) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" height="{max(0.0, height):.1f}"'
    return f'<rect class="{kind}" {place} rx="3" {extra}><title>{escape(title)}</title></rect>'
