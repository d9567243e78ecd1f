"""Charts: lengths are in proportion, text is escaped, nothing is drawn outside."""

import re
import xml.etree.ElementTree as ET

from workers.report import svg
from workers.report.svg import Bar, Cell, Span


def widths(drawn: str) -> list[float]:
    return [float(width) for width in re.findall(r'<rect[^>]* width="([\d.]+)"', drawn)]


def test_bars_are_in_proportion_and_inside() -> None:
    drawn = svg.bars("t", [Bar("a", 40, "40"), Bar("b", 10, "10"), Bar("c", 0, "0")])
    long, short, none = widths(drawn)
    assert long == 4 * short
    assert none > 0  # a sliver: the value is there, and it is zero
    assert long < svg.WIDTH


def test_columns_leave_empty_ones_out_and_label_every_few() -> None:
    rows = [Bar(str(number), number % 2, "1") for number in range(40)]
    drawn = svg.columns("t", rows, num_labels=10)
    assert len(widths(drawn)) == 20
    assert drawn.count('"middle label"') == 10


def test_every_chart_is_well_formed_and_escapes_its_text() -> None:
    nasty = '<script>"&'
    charts = [
        svg.bars(nasty, [Bar(nasty, 1, nasty)]),
        svg.columns(nasty, [Bar(nasty, 1, nasty)]),
        svg.spans(nasty, [Span(nasty, 1, 2, nasty)]),
        svg.shares(nasty, [(nasty, 0.3)]),
        svg.grid(nasty, [nasty], [nasty], [[Cell(nasty, 0.5, "good", nasty)]]),
    ]
    for drawn in charts:
        root = ET.fromstring(drawn)
        assert root.get("aria-label") == nasty
        assert nasty in "".join(root.itertext())


def test_a_share_is_split_where_it_belongs() -> None:
    agent, caller = widths(svg.shares("t", [("a", 0.25)]))
    assert caller == 3 * agent


def test_charts_of_nothing_are_empty() -> None:
    assert widths(svg.bars("t", [])) == widths(svg.columns("t", [])) == []
