"""Numbers, times, dates, prices and the like in the form in which calls write them."""

from __future__ import annotations

import random
import string
from collections.abc import Callable

MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_RELATIVE_DAYS = ("today", "tomorrow", "this weekend", "next week", "tonight", "the weekend")
_STREETS = (
    *("Oak", "Maple", "Cedar", "Elm", "Pine", "Main", "High", "Park"),
    *("Lake", "River", "Hill", "Church", "Market", "Spring", "Mill"),
)
_STREET_KINDS = (
    *("Street", "Avenue", "Road", "Drive", "Lane", "Court"),
    *("Boulevard", "Way", "Place"),
)
_MAIL_NAMES = (
    *("jane", "mike", "sam", "chris", "pat", "alex", "lee", "taylor"),
    *("jordan", "kim", "office", "info", "hello", "sales"),
)
_MAIL_HOSTS = ("gmail.com", "yahoo.com", "outlook.com", "icloud.com", "hotmail.com", "aol.com")


def ordinal(number: int) -> str:
    """1 → 1st, 12 → 12th, 23 → 23rd."""
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def _time(rng: random.Random) -> str:
    hour, kind = rng.randint(1, 12), rng.random()
    minutes = rng.choice((0, 15, 30, 45)) if rng.random() < 0.7 else rng.randint(1, 59)
    half = rng.choice(("am", "pm"))
    if kind < 0.45:
        return f"{hour}:{minutes:02d} {half}" if minutes else f"{hour} {half}"
    if kind < 0.6:
        return f"{hour} {half}"
    if kind < 0.8:
        return f"{hour}:{minutes:02d}" if minutes else f"{hour} o'clock"
    if kind < 0.9:
        return rng.choice(("noon", "midnight", f"half past {hour}", f"quarter to {hour}"))
    return f"{hour}"


def _day(rng: random.Random) -> str:
    if rng.random() < 0.25:
        return rng.choice(_RELATIVE_DAYS)
    day = rng.choice(WEEKDAYS)
    suffix = rng.choice(("", "", "", " morning", " afternoon", " evening", " night"))
    return rng.choice(("", "", "", "next ", "this ")) + day + suffix


def _date(rng: random.Random) -> str:
    number, month, kind = rng.randint(1, 31), rng.choice(MONTHS), rng.random()
    if kind < 0.4:
        return f"{month} {ordinal(number)}"
    if kind < 0.7:
        return f"{month} {number}"
    if kind < 0.85:
        return f"{rng.choice(WEEKDAYS)} the {ordinal(number)}"
    return f"the {ordinal(number)} of {month}"


def _price(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.4:
        return f"${rng.randint(1, 60) * 5}"
    if kind < 0.6:
        return f"${rng.randint(1, 999)}"
    if kind < 0.75:
        return f"${rng.randint(1, 199)}.{rng.choice((50, 99, 95, 75, 25, rng.randint(10, 99)))}"
    if kind < 0.9:
        return f"${rng.randint(10, 99) * 100:,}"
    return f"${rng.randint(100, 999) * 1000:,}"


def _number(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.5:
        return str(rng.randint(2, 20))
    if kind < 0.8:
        return str(rng.randint(21, 99))
    if kind < 0.92:
        return str(rng.randint(100, 999))
    return f"{rng.randint(1000, 9999):,}"


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice(string.digits) for _ in range(count))


def _phone(rng: random.Random) -> str:
    local = f"{rng.choice(('555', _digits(rng, 3)))}-{_digits(rng, 4)}"
    area = str(rng.randint(201, 989))
    return rng.choice((local, f"{area}-{local}"))


def _letters(rng: random.Random) -> str:
    return "-".join(rng.choice(string.ascii_uppercase) for _ in range(rng.randint(3, 7)))


def _email(rng: random.Random) -> str:
    name = rng.choice(_MAIL_NAMES)
    middle = rng.choice(("", "", f".{rng.choice(_MAIL_NAMES)}", str(rng.randint(1, 99))))
    return f"{name}{middle}@{rng.choice(_MAIL_HOSTS)}"


def _duration(rng: random.Random) -> str:
    unit = rng.choice(("minutes", "hours", "days", "weeks", "months", "years"))
    return f"{rng.choice((2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 45, 90))} {unit}"


def _address(rng: random.Random) -> str:
    number = rng.choice((rng.randint(1, 99), rng.randint(100, 999), rng.randint(1000, 9999)))
    unit = f", apartment {rng.randint(1, 40)}" if rng.random() < 0.2 else ""
    return f"{number} {rng.choice(_STREETS)} {rng.choice(_STREET_KINDS)}{unit}"


def _full_name(rng: random.Random) -> str:
    # Imported here because open_text builds its slots from this module.
    from analytics.simulator.open_text import words

    return f"{rng.choice(words('first_names'))} {rng.choice(words('last_names'))}"


MAKERS: dict[str, Callable[[random.Random], str]] = {
    "time": _time,
    "day": _day,
    "date": _date,
    "price": _price,
    "num": _number,
    "phone": _phone,
    "letters": _letters,
    "email": _email,
    "duration": _duration,
    "address": _address,
    "full": _full_name,
    "digits": lambda rng: _digits(rng, rng.randint(3, 8)),
    "percent": lambda rng: f"{rng.choice((5, 10, 15, 20, 25, 30, 50, rng.randint(1, 99)))}%",
    "ordinal": lambda rng: ordinal(rng.randint(1, 31)),
    "year": lambda rng: str(rng.randint(1940, 2027)),
}
