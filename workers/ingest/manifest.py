"""Manifests: a CSV with one row per call. What is wrong with one row is told by line; the others count."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workers.ingest.details import CallDetails, DetailsError, parse_details

PATH_COLUMN = "path"
COLUMNS = (PATH_COLUMN, *CallDetails.model_fields)


class ManifestError(Exception):
    """The manifest as a whole cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One call: `path` as written, and what the row tells. `line` counts from 1, the header included."""

    line: int
    path: str
    details: CallDetails


@dataclass(frozen=True, slots=True)
class ManifestProblem:
    """A line that could not be taken, or not wholly."""

    line: int
    message: str


@dataclass(frozen=True, slots=True)
class _Record:
    line: int
    num_lines: int
    fields: list[str]


def read_manifest(path: Path) -> Iterator[ManifestRow | ManifestProblem]:
    """The rows of a manifest. Raises ManifestError when it cannot be read or has no `path` column."""
    try:
        # bytes that are not UTF-8 become surrogates, so that they spoil their row and no other
        text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise ManifestError(f"manifest {path} cannot be read: {error.strerror}") from error
    lines = list(io.StringIO(text, newline=""))
    header, start = _header(path, lines)
    known = {name: place for place, name in enumerate(header) if name in COLUMNS}
    for name in header:
        if name not in known:
            yield ManifestProblem(
                1,
                f"column {name!r} is not known and is left out; the columns are: {', '.join(COLUMNS)}",
            )
    for record in _records(lines, start, len(header)):
        if isinstance(record, ManifestProblem):
            yield record
        elif any(record.fields):
            yield _row(record, len(header), known)


def _header(path: Path, lines: list[str]) -> tuple[list[str], int]:
    first = next(_records(lines, 0), None)
    if not isinstance(first, _Record):
        raise ManifestError(f"manifest {path} has no header line")
    header = [name.strip().lower() for name in first.fields]
    if PATH_COLUMN not in header:
        raise ManifestError(
            f"manifest {path} has no column 'path' in its first line; the columns, between commas, are: "
            + ", ".join(COLUMNS)
        )
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise ManifestError(f"manifest {path} has the column {repeated[0]!r} more than once")
    return header, first.num_lines


def _records(
    lines: list[str], start: int, num_columns: int | None = None
) -> Iterator[_Record | ManifestProblem]:
    """Records from line index `start` on. A stray quote spoils its own line only: reading goes on with the next."""
    while start < len(lines):
        reader = csv.reader(lines[start:], strict=True)
        taken = 0
        problem = "a quote in it is not closed"
        try:
            for fields in reader:
                if reader.line_num > taken + 1 and len(fields) != (num_columns or len(fields)):
                    break  # two stray quotes have swallowed the lines between them
                yield _Record(start + taken + 1, reader.line_num - taken, fields)
                taken = reader.line_num
            else:
                return
        except csv.Error as error:
            problem = f"is not CSV: {error}"
        yield ManifestProblem(start + taken + 1, problem)
        start += taken + 1


def _row(record: _Record, num_columns: int, known: dict[str, int]) -> ManifestRow | ManifestProblem:
    if len(record.fields) != num_columns:
        return ManifestProblem(
            record.line, f"has {len(record.fields)} fields, the header has {num_columns}"
        )
    values = {name: record.fields[place].strip() for name, place in known.items()}
    if any(not _is_storable(value) for value in values.values()):
        return ManifestProblem(record.line, "holds bytes that are not UTF-8 text")
    path = values.pop(PATH_COLUMN)
    if not path:
        return ManifestProblem(record.line, "names no path")
    try:
        return ManifestRow(record.line, path, parse_details(values))
    except DetailsError as error:
        return ManifestProblem(record.line, str(error))


def _is_storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
