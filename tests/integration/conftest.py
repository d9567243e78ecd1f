"""A Postgres for the integration tests: the one at AFTERCALL_TEST_DATABASE_URL, else an embedded one for the session.

AFTERCALL_TEST_POSTGRES_VERSION=16 takes the embedded Postgres 16 instead of 18.

The schema is migrated once, into a template; whoever asks for a database gets a copy of it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from db import migrate
from db.session import Database
from workers.local.postgres import LocalPostgres

# Gives the URL of a fresh, migrated database, dropped at the end of the block.
MakeDatabase = Callable[[], AbstractContextManager[str]]


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server's maintenance database, with the right to create databases."""
    configured = os.environ.get("AFTERCALL_TEST_DATABASE_URL")
    if configured:
        yield configured
        return
    directory: Path = tmp_path_factory.mktemp("postgres")
    version = int(os.environ.get("AFTERCALL_TEST_POSTGRES_VERSION", "18"))
    with LocalPostgres(directory, durable=False, version=version) as server:
        assert server.url is not None
        yield server.url


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> Iterator[str]:
    """The name of a database with the newest schema and no rows."""
    with _database(postgres_url) as url:
        with Database(url) as database:
            migrate.upgrade(database.engine)
        yield str(make_url(url).database)


@pytest.fixture(scope="session")
def make_database(postgres_url: str, template_database: str) -> MakeDatabase:
    """For tests that want a database, or a server process on one, to themselves."""
    return lambda: _database(postgres_url, template=template_database)


@pytest.fixture(scope="session")
def make_empty_database(postgres_url: str) -> MakeDatabase:
    """For tests of the migrations themselves."""
    return lambda: _database(postgres_url)


@pytest.fixture(scope="module")
def database_url(make_database: MakeDatabase) -> Iterator[str]:
    """A fresh database for this module."""
    with make_database() as url:
        yield url


@pytest.fixture(scope="module")
def database(database_url: str) -> Iterator[Database]:
    """This module's database, opened."""
    with Database(database_url, application="aftercall tests") as opened:
        yield opened


@contextmanager
def _database(server_url: str, *, template: str = "template0") -> Iterator[str]:
    name = f"aftercall_test_{uuid.uuid4().hex}"
    url = make_url(server_url)
    admin = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        try:
            yield url.set(database=name).render_as_string(hide_password=False)
        finally:
            connection.execute(
                sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
            )
