"""A drawing of measured points as SVG that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 480
LEFT, RIGHT, TOP, BOTTOM = 76, 30, 88, 60
LEGEND_COLUMNS = 2  # above the frame, where no point lies
COLOURS = ("#1b6ac9", "#12a594", "#c2521b", "#7a5195", "#888888", "#b0851f")


@dataclass(frozen=True, slots=True)
class Series:
    """Points `(x, y, label)` that belong together, joined by a line in their order."""

    name: str
    points: Sequence[tuple[float, float, str]]


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis shows. A logarithmic one needs positive values; a linear one begins at zero."""

    title: str
    is_logarithmic: bool = False
    text: Callable[[float], str] = "{:g}".format


@dataclass(frozen=True, slots=True)
class _Scale:
    """An axis with its range; `place` gives 0 to 1."""

    axis: Axis
    low: float
    high: float

    @classmethod
    def around(cls, axis: Axis, values: Sequence[float]) -> _Scale:
        if not axis.is_logarithmic:
            return cls(axis, 0.0, _round_up(max(values)))
        low, high = (math.log10(edge(values)) for edge in (min, max))
        return cls(axis, math.floor(3 * low) / 3, max(math.ceil(3 * high) / 3, low + 1 / 3))

    def place(self, value: float) -> float:
        shown = math.log10(value) if self.axis.is_logarithmic else value
        return (shown - self.low) / (self.high - self.low)

    def marks(self) -> Iterator[float]:
        if not self.axis.is_logarithmic:
            yield from (self.high * i / 5 for i in range(6))
            return
        for exponent in range(math.floor(self.low), math.ceil(self.high) + 1):
            for digit in (1, 2, 5):
                if self.low <= math.log10(digit * 10.0**exponent) <= self.high:
                    yield digit * 10.0**exponent


def draw(title: str, series: Sequence[Series], *, across: Axis, up: Axis) -> str:
    """All series in one frame, with a legend."""
    points = [point for one in series for point in one.points]
    x_scale = _Scale.around(across, [x for x, _, _ in points])
    y_scale = _Scale.around(up, [y for _, y, _ in points])

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * x_scale.place(x),
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y_scale.place(y),
        )

    shapes = [_text(LEFT, 24, title, size=15), *_frame(x_scale, y_scale)]
    for i, one in enumerate(series):
        colour = COLOURS[i % len(COLOURS)]
        shapes += _line(one, [at(x, y) for x, y, _ in one.points], colour)
        row, column = divmod(i, LEGEND_COLUMNS)
        left, y = LEFT + column * (WIDTH - LEFT - RIGHT) // LEGEND_COLUMNS, 44 + 18 * row
        shapes.append(f'<circle cx="{left + 5}" cy="{y}" r="5" fill="{colour}"/>')
        shapes.append(_text(left + 17, y + 4, one.name))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="system-ui, sans-serif"><rect width="100%" height="100%" fill="#ffffff"/>'
        f"{''.join(shapes)}</svg>\n"
    )


def _frame(x_scale: _Scale, y_scale: _Scale) -> list[str]:
    shapes = []
    floor, wall = HEIGHT - BOTTOM, WIDTH - RIGHT
    for value in x_scale.marks():
        x = LEFT + (wall - LEFT) * x_scale.place(value)
        shapes += [
            _rule(x, TOP, x, floor),
            _text(x, floor + 18, x_scale.axis.text(value), anchor="middle"),
        ]
    for value in y_scale.marks():
        y = floor - (floor - TOP) * y_scale.place(value)
        shapes += [
            _rule(LEFT, y, wall, y),
            _text(LEFT - 8, y + 4, y_scale.axis.text(value), anchor="end"),
        ]
    shapes.append(_text(WIDTH / 2, HEIGHT - 14, x_scale.axis.title, anchor="middle"))
    turned = f'transform="translate(16 {HEIGHT / 2:.0f}) rotate(-90)" text-anchor="middle"'
    shapes.append(
        f'<text {turned} font-size="12" fill="#333333">{escape(y_scale.axis.title)}</text>'
    )
    return shapes


def _line(one: Series, places: Sequence[tuple[float, float]], colour: str) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    shapes = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
    for (x, y), (_, _, label) in zip(places, one.points, strict=True):
        shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
        shapes.append(_text(x + 7, y - 6, label, colour=colour))
    return shapes


def _text(
    x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", colour: str = "#333333"
) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}"'
    return f"<text {place}>{escape(text)}</text>"


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="#dddddd"/>'


def _round_up(value: float) -> float:
    """To half a leading digit, so that marks are short numbers."""
    step = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return max(math.ceil(value / step * 2) * step / 2, step)
