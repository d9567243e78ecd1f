"""Files of named statements."""

from __future__ import annotations

from importlib.resources import files

import pytest

from db import sql
from db.sql import SqlFileError, parse

FILES = sorted(
    path.name.removesuffix(".sql")
    for path in files("db.sql").iterdir()
    if path.name.endswith(".sql")
)


def test_a_file_is_split_at_its_names() -> None:
    found = parse(
        "-- what this is\n\n-- name: one\n-- says one\nSELECT 1;\n\n-- name: two\nSELECT :x\n"
    )
    assert {name: str(statement) for name, statement in found.items()} == {
        "one": "-- says one\nSELECT 1",
        "two": "SELECT :x",
    }


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("SELECT 1;\n-- name: one\nSELECT 1;", "before the first"),
        ("-- name: one\nSELECT 1;\n-- name: one\nSELECT 2;", "'one' is defined twice"),
        ("-- name: one\n-- nothing here\n-- name: two\nSELECT 2;", "'one' is empty"),
    ],
)
def test_a_malformed_file_says_what_is_wrong(source: str, complaint: str) -> None:
    with pytest.raises(SqlFileError, match=complaint):
        parse(source)


@pytest.mark.parametrize("name", FILES)
def test_every_file_can_be_read(name: str) -> None:
    assert sql.statements(name)


def test_statements_cannot_be_changed_by_accident() -> None:
    with pytest.raises(TypeError):
        sql.statements("queue")["claim"] = None  # type: ignore[index]


def test_every_view_is_created_under_its_files_name() -> None:
    for path in files("db.sql").joinpath("views").iterdir():
        name, _, version = path.name.removesuffix(".sql").rpartition("_v")
        assert version.isdigit()
        assert f"CREATE VIEW {name}" in sql.view(path.name.removesuffix(".sql"))
