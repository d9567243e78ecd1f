"""Phrases for days and times, as callers and agents say them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Final

from analytics.simulator.entities import load_shared

NEAR: Final = "today"
SOON: Final = "week"
DATED: Final = "month"
FAR: Final = "later"

_HOURS: Final = (
    *[f"{hour} am" for hour in (7, 8, 9, 10, 11)],
    "noon",
    *[f"{hour} pm" for hour in (1, 2, 3, 4, 5, 6)],
    *[f"{hour}:{minute} am" for hour in (8, 9, 10, 11) for minute in (15, 30, 45)],
    *[f"{hour}:{minute} pm" for hour in (12, 1, 2, 3, 4, 5) for minute in (15, 30, 45)],
)
_PARTS: Final = ("morning", "afternoon", "evening")


@dataclass(frozen=True, slots=True)
class Moment:
    """A day and time. `when` is an adverbial ("on Tuesday at 3 pm"), `label` the same without its leading "on"."""

    when: str
    label: str
    day: str  # usable after "on"
    time: str  # usable after "at"


def ordinal(number: int) -> str:
    """14 → 14th."""
    if number in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def _moment(when: str, day: str, time: str) -> Moment:
    return Moment(when, when.removeprefix("on "), day, time)


def _near() -> list[Moment]:
    afternoon = [hour for hour in _HOURS if hour.endswith("pm") and not hour.startswith("12")]
    morning = [hour for hour in _HOURS if hour.endswith("am")]
    moments = [_moment(f"today at {hour}", "today", hour) for hour in _HOURS] * 2
    moments += [_moment(f"this afternoon at {hour}", "today", hour) for hour in afternoon]
    moments += [_moment(f"this morning at {hour}", "today", hour) for hour in morning]
    moments += [
        _moment("tonight at 7 pm", "today", "7 pm"),
        _moment("tonight at 8:30 pm", "today", "8:30 pm"),
    ]
    return moments


def _soon() -> list[Moment]:
    moments = []
    for hour in _HOURS:
        moments += [_moment(f"tomorrow at {hour}", "tomorrow", hour)] * 3
        for weekday in load_shared().weekdays:
            moments.append(_moment(f"on {weekday} at {hour}", weekday, hour))
            moments.append(_moment(f"this {weekday} at {hour}", weekday, hour))
            moments.append(_moment(f"next {weekday} at {hour}", weekday, hour))
    for part in _PARTS:
        moments += [_moment(f"tomorrow {part}", "tomorrow", "noon")] * 6
        for weekday in load_shared().weekdays:
            moments += [_moment(f"on {weekday} {part}", weekday, "noon")] * 3
            moments += [_moment(f"this {weekday} {part}", weekday, "noon")] * 3
    return moments


def _dated() -> list[Moment]:
    moments = []
    weekdays = load_shared().weekdays
    for number in range(1, 32):
        day = f"the {ordinal(number)}"
        for i_hour, hour in enumerate(_HOURS):
            moments.append(_moment(f"on {day} at {hour}", day, hour))
            weekday = weekdays[(number + i_hour) % len(weekdays)]
            moments.append(_moment(f"on {weekday} {day} at {hour}", f"{weekday} {day}", hour))
        moments += [_moment(f"on {day} in the {part}", day, "noon") for part in _PARTS]
    return moments


def _far() -> list[Moment]:
    moments = []
    for i_month, month in enumerate(load_shared().months):
        for number in range(1, 29):
            day = f"{month} {ordinal(number)}"
            hours = _HOURS[i_month % 3 :: 3]
            moments += [_moment(f"on {day} at {hour}", day, hour) for hour in hours]
    return moments


@cache
def moments() -> dict[str, tuple[Moment, ...]]:
    """All moments by how far away they are: today, in the next days, on a date, on a date of some month."""
    return {NEAR: tuple(_near()), SOON: tuple(_soon()), DATED: tuple(_dated()), FAR: tuple(_far())}


def pick_moment(random: Random, distance: str) -> Moment:
    """A moment at this distance."""
    choices = moments()[distance]
    return choices[int(random.random() * len(choices))]


def pick_other(random: Random, distance: str, *taken: Moment) -> Moment:
    """A moment whose phrase and day differ from those taken; a day of the same distance if there is one."""
    for _ in range(20):
        moment = pick_moment(random, distance)
        if all(moment.day != other.day for other in taken):
            return moment
    return pick_other(random, FAR, *taken)
