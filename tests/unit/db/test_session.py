"""Opening a database, as far as that goes without one."""

from __future__ import annotations

import pytest

from db.errors import DatabaseUnavailableError
from db.session import Database, normalize_url


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_usual_spelling_means_psycopg(scheme: str) -> None:
    url = normalize_url(f"{scheme}://me:secret@host:5433/name?host=/run/pg")
    assert (url.drivername, url.database, url.port) == ("postgresql+psycopg", "name", 5433)
    assert url.query == {"host": "/run/pg"}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "no url",
        "mysql://host/name",
        "sqlite://",
        "postgresql+asyncpg://h/n",
        "postgresql://host:port/name",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(DatabaseUnavailableError, match="expected postgresql://"):
        normalize_url(url)


def test_a_refused_url_does_not_show_its_password() -> None:
    with pytest.raises(DatabaseUnavailableError) as caught:
        normalize_url("mysql://me:secret@host/name")
    assert "secret" not in str(caught.value)


def test_opening_connects_to_nothing_yet() -> None:
    with Database("postgresql://me:secret@127.0.0.1:1/name") as database:
        assert "secret" not in repr(database.engine)
