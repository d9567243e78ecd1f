"""What calls are made of: businesses, services, issues, people, questions, words of mood; from `lexicon/*.txt`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from analytics.simulator.acts import VERTICALS
from analytics.simulator.patterns import is_heldout

LEXICON_DIRECTORY: Final = Path(__file__).parent / "lexicon"

_ARTICLES: Final = ("a ", "an ", "some ")


class LexiconError(ValueError):
    """A lexicon file breaks its format. The message names the file and the line."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a business sells. `name` is the bare noun phrase; prices are whole dollars."""

    name: str
    with_article: str
    low: int
    high: int
    issues: tuple[str, ...]  # problems that this service solves, with article


@dataclass(frozen=True, slots=True)
class Issue:
    """A caller's problem, and the service that solves it."""

    text: str  # with article
    name: str  # bare noun phrase
    service: str
    urgent: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One line of business within a vertical: its services fit its businesses and its issues."""

    name: str
    businesses: tuple[str, ...]
    services: tuple[Service, ...]
    issues: tuple[Issue, ...]
    urgent_issues: tuple[Issue, ...]


@dataclass(frozen=True, slots=True)
class Vertical:
    """All lines of one vertical, with staff and questions that fit every line."""

    name: str
    lines: tuple[Line, ...]
    line_names: frozenset[str]
    staff: tuple[str, ...]
    questions: tuple[tuple[str, str], ...]  # (topic, answer)


@dataclass(frozen=True, slots=True)
class Shared:
    """Word lists that all verticals use."""

    agents: tuple[str, ...]
    streets: tuple[str, ...]
    competitors: tuple[str, ...]
    answers: tuple[str, ...]  # to questions of yes or no
    detail_answers: tuple[str, ...]  # to questions of what, who, when
    weekdays: tuple[str, ...]
    months: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Names:
    """First and last names of one side of the name split."""

    first: tuple[str, ...]
    last: tuple[str, ...]


def bare(phrase: str) -> str:
    """The phrase without its leading article."""
    for article in _ARTICLES:
        if phrase.startswith(article):
            return phrase[len(article) :]
    return phrase


def _content_lines(name: str) -> list[str]:
    lines = (LEXICON_DIRECTORY / name).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def read_words(name: str) -> tuple[str, ...]:
    """All words of a lexicon file that holds many to a line; underscores stand for spaces."""
    return tuple(word.replace("_", " ") for line in _content_lines(name) for word in line.split())


def read_sections(name: str) -> dict[str, list[str]]:
    """[section] → its lines, of one lexicon file. Raises LexiconError for text before the first section."""
    sections: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in _content_lines(name):
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), [])
        elif current is None:
            raise LexiconError(f"{name}: text before the first [section]: {line}")
        else:
            current.append(line)
    return sections


def semicolons(text: str) -> tuple[str, ...]:
    """Items between semicolons, stripped; empty ones dropped."""
    return tuple(part.strip() for part in text.split(";") if part.strip())


def _fields(lines: list[str]) -> dict[str, list[str]]:
    """`key: a; b` on one line, or `key:` followed by its rows."""
    fields: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        key, colon, rest = line.partition(":")
        if colon and key in {"businesses", "staff", "services", "issues", "questions"}:
            current = fields.setdefault(key, [])
            current.extend(semicolons(rest))
        else:
            current.append(line)
    return fields


def _row(name: str, line: str, columns: int) -> list[str]:
    cells = [cell.strip() for cell in line.split("|")]
    if len(cells) < columns:
        raise LexiconError(f"{name}: needs {columns} columns: {line}")
    return cells


def _read_line(file: str, name: str, fields: dict[str, list[str]]) -> Line:
    issues = []
    for row in fields.get("issues", []):
        text, service, *flags = _row(file, row, 2)
        issues.append(Issue(text, bare(text), bare(service), "urgent" in flags))
    services = []
    for row in fields["services"]:
        phrase, prices = _row(file, row, 2)
        low, _, high = prices.partition("-")
        solves = tuple(issue.text for issue in issues if issue.service == bare(phrase))
        services.append(Service(bare(phrase), phrase, int(low), int(high), solves))
    known = {service.name for service in services}
    for issue in issues:
        if issue.service not in known:
            raise LexiconError(
                f"{file} [{name}]: {issue.text} is solved by no service: {issue.service}"
            )
    urgent = tuple(issue for issue in issues if issue.urgent)
    return Line(name, tuple(fields["businesses"]), tuple(services), tuple(issues), urgent)


@cache
def load_vertical(name: str) -> Vertical:
    """One vertical's lexicon. Raises LexiconError when its file breaks the format."""
    file = f"{name}.txt"
    sections = {section: _fields(lines) for section, lines in read_sections(file).items()}
    common = sections.pop("all")
    lines = tuple(_read_line(file, section, fields) for section, fields in sections.items())
    questions = [_row(file, row, 2) for row in common["questions"]]
    return Vertical(
        name,
        lines,
        frozenset(line.name for line in lines),
        tuple(common["staff"]),
        tuple((topic, answer) for topic, answer in questions),
    )


@cache
def load_verticals() -> dict[str, Vertical]:
    """Every vertical by name."""
    return {name: load_vertical(name) for name in VERTICALS}


@cache
def load_shared() -> Shared:
    """The lists that all verticals share."""
    sections = read_sections("shared.txt")
    lists = {
        key.replace(" ", "_"): tuple(item for line in lines for item in semicolons(line))
        for key, lines in sections.items()
    }
    return Shared(**lists)


@cache
def load_names(heldout: bool) -> Names:
    """First and last names, either those of the training side or those held out (15 %, by hash of the name)."""

    def side(file: str) -> tuple[str, ...]:
        return tuple(word for word in read_words(file) if is_heldout(word) == heldout)

    return Names(side("first_names.txt"), side("last_names.txt"))


@cache
def load_mood_words(heldout: bool) -> dict[str, tuple[str, ...]]:
    """Slot → words that colour an utterance, of the training side or of those held out (15 %, by hash of the word)."""
    return {
        slot: tuple(word for word in semicolons(";".join(rows)) if is_heldout(word) == heldout)
        for slot, rows in read_sections("moods.txt").items()
    }
