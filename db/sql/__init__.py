"""SQL kept as SQL: files of named statements and the versioned views.

A statement starts with a line `-- name: claim` and ends at the next one; lines of `--` below the name say what it does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from sqlalchemy import TextClause, text

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


class SqlFileError(Exception):
    """A file of named statements has text before its first name, a name twice, or a name without a statement."""


@cache
def statements(name: str) -> Mapping[str, TextClause]:
    """The statements of `db/sql/<name>.sql` by name. Raises SqlFileError when the file is malformed."""
    return MappingProxyType(parse(files(__package__).joinpath(f"{name}.sql").read_text("utf-8")))


def parse(source: str) -> dict[str, TextClause]:
    """Split a file of named statements. Raises SqlFileError when it is malformed."""
    head, *parts = _NAME.split(source)
    if any(line and not line.startswith("--") for line in head.splitlines()):
        raise SqlFileError(f"text before the first `-- name:` line: {head.strip()[:60]!r}")
    found: dict[str, TextClause] = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        if name in found:
            raise SqlFileError(f"statement {name!r} is defined twice")
        if not re.sub(r"--.*", "", body).strip():
            raise SqlFileError(f"statement {name!r} is empty")
        found[name] = text(body.strip().rstrip(";"))
    return found


def view(name: str) -> str:
    """The text of `db/sql/views/<name>.sql`, such as `call_scores_v1`; migrations execute it as it is."""
    return files(__package__).joinpath("views", f"{name}.sql").read_text("utf-8")
