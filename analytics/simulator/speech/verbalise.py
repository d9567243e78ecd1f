"""Written text to the words a voice is to say.

The recogniser learns the written form (`3:30 pm`, `$120`); the voices get words only, because engines disagree on how
to read figures. Where people say one written form in several ways (`412`, `0`), a random stream chooses.
"""

from __future__ import annotations

import random
import re

from analytics.simulator.speech.numbers_spoken import cardinal, digit_by_digit, ordinal, pairs

_LETTER_NAMES = (
    *("ay", "bee", "see", "dee", "ee", "eff", "jee", "aitch", "eye"),
    *("jay", "kay", "ell", "em", "en", "oh", "pee", "cue", "are"),
    *("ess", "tee", "you", "vee", "double-you", "ex", "why", "zee"),
)
_LETTERS = dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", _LETTER_NAMES, strict=True))
_ABBREVIATIONS = {
    "Dr.": "doctor",
    "Mr.": "mister",
    "Mrs.": "missus",
    "Ms.": "miz",
    "St.": "street",
    "Ave.": "avenue",
    "Rd.": "road",
    "Apt.": "apartment",
    "a.m.": "ay em",
    "p.m.": "pee em",
    "vs.": "versus",
}
_SOUNDS = {
    "HVAC": "aitch vack",
    "mm-hmm": "um hum",
    "mhm": "um hum",
    "hmm": "hum",
    "uh-huh": "uh huh",
    "24/7": "twenty four seven",
    "VIP": "vee eye pee",
    "PIN": "pin",
    "ASAP": "ay sap",
    "OK": "okay",
    "&": "and",
}
_MONTHS = (
    "January|February|March|April|May|June|July|August|September|October|November|December"
    "|Jan|Feb|Aug|Sept|Oct|Nov|Dec"
)
_RULES = re.compile(
    r"(?P<email>[\w.+-]+@[\w-]+(?:\.[\w-]+)+)"
    r"|(?P<phone>(?:\(\d{3}\) |\d{3}[-. ])?\d{3}[-.]\d{4}\b)"
    r"|\$(?P<price>\d[\d,]*(?:\.\d\d)?)(?P<scale> (?:million|thousand|hundred))?"
    r"|(?P<clock>\d{1,2}:\d\d)(?P<clock_half> ?[ap](?:\.m\.|m\b))?"
    r"|(?P<hour>\d{1,2})(?P<hour_half> ?[ap](?:\.m\.|m\b))"
    r"|(?P<percent>\d+(?:\.\d+)?)%"
    r"|(?P<ordinal>\d+)(?:st|nd|rd|th)\b"
    rf"|(?P<month>\b(?:{_MONTHS})) (?P<month_day>\d{{1,2}})\b(?!:)"
    r"|#(?P<hash>\d+)"
    r"|(?P<decimal>\d+\.\d+)"
    r"|(?P<thousands>\d{1,3}(?:,\d{3})+)"
    r"|(?P<number>\d+)"
    r"|(?P<spelled>\b[A-Z](?:-[A-Z])+\b)"
    r"|(?P<abbreviation>\b(?:Dr|Mr|Mrs|Ms|St|Ave|Rd|Apt|vs|a\.m|p\.m)\.)"
    r"|(?P<sound>24/7|&|\b(?:HVAC|VIP|PIN|ASAP|OK|[Mm]m-hmm|[Mm]hm|[Hh]mm+|[Uu]h-huh)\b)"
    r"|(?P<acronym>\b[A-Z]{2,5}s?\b)"
)
_SILENT = re.compile(r"[^A-Za-z0-9 ,.?!']+")


def _price(text: str) -> str:
    whole, _, cents = text.replace(",", "").partition(".")
    dollars = f"{cardinal(int(whole))} {'dollar' if int(whole) == 1 else 'dollars'}"
    if not cents or int(cents) == 0:
        return dollars
    return f"{dollars} and {cardinal(int(cents))} cents"


def _clock(text: str) -> str:
    hour, minutes = text.split(":")
    if minutes == "00":
        return f"{cardinal(int(hour))} o'clock"
    if int(minutes) < 10:
        return f"{cardinal(int(hour))} oh {cardinal(int(minutes))}"
    return f"{cardinal(int(hour))} {cardinal(int(minutes))}"


def _half(text: str | None) -> str:
    if not text:
        return ""
    return " ay em" if "a" in text else " pee em"


def _bare_number(digits: str, rng: random.Random) -> str:
    value = int(digits)
    if len(digits) >= 5 or digits[0] == "0":
        return digit_by_digit(digits, rng.choice(("zero", "oh")))
    if len(digits) <= 2:
        return cardinal(value)
    if len(digits) == 4:
        if rng.random() < 0.3 and not 1900 <= value < 2040:
            return digit_by_digit(digits, rng.choice(("zero", "oh")))
        return cardinal(value) if 2000 <= value < 2010 else pairs(value)
    return rng.choice((cardinal, pairs, lambda number: digit_by_digit(str(number))))(value)


def _phone(text: str, rng: random.Random) -> str:
    zero = rng.choice(("zero", "oh"))
    return ", ".join(digit_by_digit(group, zero) for group in re.findall(r"\d+", text))


def _email(text: str, rng: random.Random) -> str:
    parts = re.findall(r"[A-Za-z]+|\d+|.", text)
    names = {"@": "at", ".": "dot", "-": "dash", "_": "underscore", "+": "plus"}
    return " ".join(
        names.get(part) or (_bare_number(part, rng) if part.isdigit() else part) for part in parts
    )


def _rewrite(match: re.Match[str], rng: random.Random) -> str:
    found = {name: text for name, text in match.groupdict().items() if text is not None}
    match found:
        case {"email": text}:
            return _email(text, rng)
        case {"phone": text}:
            return _phone(text, rng)
        case {"price": text, "scale": scale}:
            return f"{cardinal(int(text.replace(',', '')))}{scale} dollars"
        case {"price": text}:
            return _price(text)
        case {"clock": text}:
            spoken = _clock(text)
            half = _half(found.get("clock_half"))
            return spoken.removesuffix(" o'clock") + half if half else spoken
        case {"hour": text, "hour_half": half}:
            return cardinal(int(text)) + _half(half)
        case {"percent": text}:
            return f"{_decimal(text)} percent"
        case {"ordinal": text}:
            return ordinal(int(text))
        case {"month": month, "month_day": day}:
            return f"{month} {rng.choice((ordinal, ordinal, cardinal))(int(day))}"
        case {"hash": text}:
            return f"number {_bare_number(text, rng)}"
        case {"decimal": text}:
            return _decimal(text)
        case {"thousands": text}:
            return cardinal(int(text.replace(",", "")))
        case {"number": text}:
            return _bare_number(text, rng)
        case {"spelled": text}:
            return ", ".join(_LETTERS[letter] for letter in text.split("-"))
        case {"abbreviation": text}:
            return _ABBREVIATIONS[text]
        case {"sound": text}:
            return _SOUNDS[
                text
                if text in _SOUNDS
                else "hmm"
                if text.lower().startswith("hm")
                else text.lower()
            ]
        case {"acronym": text}:
            names = " ".join(_LETTERS[letter] for letter in text.removesuffix("s"))
            return names + "s" * text.endswith("s")
    raise AssertionError(f"a rule without a reading: {found}")


def _decimal(text: str) -> str:
    whole, _, fraction = text.partition(".")
    return cardinal(int(whole)) + (f" point {digit_by_digit(fraction)}" if fraction else "")


def verbalise(written: str, rng: random.Random) -> str:
    """The spoken form of a written utterance: words, commas and sentence marks only, ASCII."""
    plain = written.replace("’", "'").replace("—", ", ").replace("–", ", ")
    spoken = _RULES.sub(lambda match: f" {_rewrite(match, rng)} ", plain)
    spoken = _SILENT.sub(" ", spoken)
    return re.sub(r" +([,.?!])", r"\1", re.sub(r" +", " ", spoken)).strip()
