"""Numbers and times as a person reads them."""

from __future__ import annotations

from datetime import UTC, datetime


def clock(ms: int | None) -> str:
    """A position in a recording: `2:05`, or `1:02:05` beyond an hour."""
    if ms is None:
        return "–"
    minutes, seconds = divmod(ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def span(seconds: float | None) -> str:
    """A length of time in its two largest units: `340 ms`, `12 s`, `4 min 10 s`, `3 h 5 min`, `2 d 4 h`."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    whole = round(seconds)
    for name, size, next_name, next_size in (
        ("d", 86_400, "h", 3_600),
        ("h", 3_600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= size:
            rest = whole % size // next_size
            return f"{whole // size} {name}" + (f" {rest} {next_name}" if rest else "")
    return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"


def percent(fraction: float | None) -> str:
    """`42 %`, or a dash when there is nothing to count."""
    return "–" if fraction is None else f"{100 * fraction:.0f} %"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 call`, `12,000 calls`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def size(num_bytes: int | None) -> str:
    """`0 B`, `812 kB`, `3.4 MB`."""
    if num_bytes is None:
        return "–"
    amount, unit = float(num_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:.1f} {unit}" if unit not in ("B", "kB") else f"{amount:.0f} {unit}"


def moment(when: datetime | None) -> str:
    """A moment in UTC to the minute: `2026-11-22 14:03`."""
    return "–" if when is None else when.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def words(name: str | None) -> str:
    """A vocabulary's value as words: `not_applicable` is `not applicable`."""
    return "–" if name is None else name.replace("_", " ")
