"""Calls per second against latency as an SVG drawing that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 30, 50, 60
COLOURS = ("#1b6ac9", "#12a594", "#c2521b", "#7a5195", "#888888")


@dataclass(frozen=True, slots=True)
class Series:
    """One system: points `(calls per second, seconds, label)`."""

    name: str
    points: Sequence[tuple[float, float, str]]


def throughput_against_latency(title: str, series: Sequence[Series]) -> str:
    """Right is more calls per second, down is less latency, on a logarithmic scale."""
    everything = [point for one in series for point in one.points]
    most = _round_up(max(x for x, _, _ in everything))
    low = math.floor(3 * math.log10(min(y for _, y, _ in everything))) / 3
    high = math.ceil(3 * math.log10(max(y for _, y, _ in everything))) / 3
    high = max(high, low + 1 / 3)

    def at(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * x / most
        return across, TOP + (HEIGHT - TOP - BOTTOM) * (high - math.log10(y)) / (high - low)

    shapes = [_text(LEFT, 24, title, size=15)]
    shapes += _axes(most, low, high, at)
    for i, one in enumerate(series):
        shapes += _line(one, [at(x, y) for x, y, _ in one.points], COLOURS[i % len(COLOURS)])
        colour = COLOURS[i % len(COLOURS)]
        y = TOP + 8 + 18 * i
        shapes.append(f'<circle cx="{WIDTH - 250}" cy="{y}" r="5" fill="{colour}"/>')
        shapes.append(_text(WIDTH - 238, y + 4, one.name))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="system-ui, sans-serif"><rect width="100%" height="100%" fill="#ffffff"/>'
        f"{''.join(shapes)}</svg>\n"
    )


def _axes(most: float, low: float, high: float, at) -> list[str]:  # type: ignore[no-untyped-def]
    shapes = []
    for i in range(6):
        x, floor = at(most * i / 5, 10**low)
        shapes.append(_rule(x, TOP, x, floor))
        shapes.append(_text(x, floor + 18, f"{most * i / 5:g}", anchor="middle"))
    for exponent in range(math.floor(low), math.ceil(high) + 1):
        for step in (1, 2, 5):
            value = step * 10.0**exponent
            if low <= math.log10(value) <= high:
                x, y = at(0, value)
                shapes.append(_rule(x, y, WIDTH - RIGHT, y))
                shapes.append(_text(x - 8, y + 4, _seconds(value), anchor="end"))
    shapes.append(_text(WIDTH / 2, HEIGHT - 14, "calls per second", anchor="middle"))
    shapes.append(
        f'<text transform="translate(16 {HEIGHT / 2:.0f}) rotate(-90)" text-anchor="middle" '
        f'font-size="12" fill="#333333">95th percentile of latency</text>'
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


def _seconds(value: float) -> str:
    return f"{1e3 * value:g} ms" if value < 1 else f"{value:g} s"


def _round_up(value: float) -> float:
    step = 10.0 ** math.floor(math.log10(value))
    return math.ceil(value / step * 2) * step / 2
