"""Numbers as a person reads them."""

from datetime import datetime, timedelta, timezone

import pytest

from workers import readable


@pytest.mark.parametrize(
    ("ms", "expected"),
    [(0, "0:00"), (999, "0:00"), (65_000, "1:05"), (3_725_000, "1:02:05"), (None, "–")],
)
def test_clock(ms: int | None, expected: str) -> None:
    assert readable.clock(ms) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "–"),
        (-3, "0 ms"),
        (0.34, "340 ms"),
        (4.25, "4.2 s"),
        (59.7, "1 min"),
        (250, "4 min 10 s"),
        (11_100, "3 h 5 min"),
        (187_200, "2 d 4 h"),
    ],
)
def test_span(seconds: float | None, expected: str) -> None:
    assert readable.span(seconds) == expected


@pytest.mark.parametrize(
    ("num_bytes", "expected"), [(0, "0 B"), (812_400, "812 kB"), (3_449_000, "3.4 MB"), (None, "–")]
)
def test_size(num_bytes: int | None, expected: str) -> None:
    assert readable.size(num_bytes) == expected


def test_counts_and_moments() -> None:
    assert readable.count(1, "call") == "1 call"
    assert readable.count(12_000, "call") == "12,000 calls"
    east = datetime(2026, 11, 22, 1, 0, tzinfo=timezone(timedelta(hours=2)))
    assert readable.moment(east) == "2026-11-21 23:00"
