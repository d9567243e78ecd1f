"""The door to the database: an engine, units of work, and the check that the schema is the one we know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import URL, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session

from db import migrate
from db.errors import DatabaseTooOldError, DatabaseUnavailableError, translate

OLDEST_POSTGRES = 14


def normalize_url(url: str) -> URL:
    """A Postgres URL in any usual spelling, as one for psycopg 3. Raises DatabaseUnavailableError for anything else."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:  # the latter for a port that is no number
        raise DatabaseUnavailableError(
            "the database URL cannot be read; expected postgresql://…"
        ) from error
    if parsed.drivername not in {"postgres", "postgresql", "postgresql+psycopg"}:
        raise DatabaseUnavailableError(
            f"{parsed.drivername!r} is not Postgres; expected postgresql://…"
        )
    return parsed.set(drivername="postgresql+psycopg")


class Database:
    """One process's connections to Postgres. Create it after the process has started, never inherit one over a fork.

    Statements raise the types of `db.errors`, whichever driver error lies beneath.
    """

    def __init__(self, url: str, *, application: str = "aftercall", pool_size: int = 5) -> None:
        """Connect lazily to `url`, with at most `pool_size` + 5 connections."""
        self.url = normalize_url(url)
        self.engine: Engine = create_engine(
            self.url,
            pool_size=pool_size,
            max_overflow=5,
            pool_pre_ping=True,  # a restarted server must not fail the first statement after it
            connect_args={"connect_timeout": 10, "application_name": application},
        )
        event.listen(self.engine, "handle_error", _raise_domain_error)
        event.listen(self.engine, "connect", _use_utc)

    @contextmanager
    def unit_of_work(self) -> Iterator[Session]:
        """A session in a transaction that is committed at the end, or rolled back when the block raises.

        This is the only place that commits: repository and queue functions take the session and never do.
        """
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    def check_schema_current(self) -> None:
        """Raise a StoreError unless the schema is the one this version knows.

        DatabaseBehindError, DatabaseAheadError, DatabaseTooOldError or DatabaseUnavailableError.
        """
        with self.engine.connect() as connection:
            number = int(connection.scalar(text("SHOW server_version_num")))
            if number < OLDEST_POSTGRES * 10_000:
                raise DatabaseTooOldError(
                    f"the server is Postgres {number // 10_000}; Aftercall needs {OLDEST_POSTGRES} or newer"
                )
            migrate.check_current(connection)

    def ping(self) -> str:
        """The server's version, such as `15.20`. Raises DatabaseUnavailableError."""
        with self.engine.connect() as connection:
            return str(connection.scalar(text("SHOW server_version")))

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.dispose()


def _use_utc(connection: psycopg.Connection, _: object) -> None:
    """Days and weeks are UTC. Not by libpq's `options`: the URL may have its own, and some poolers refuse them."""
    connection.execute("SET TIME ZONE 'UTC'")
    connection.commit()


def _raise_domain_error(context: ExceptionContext) -> None:
    if context.is_pre_ping:
        return  # a stale connection: the pool replaces it and nobody needs to hear of it
    domain_error = translate(context.original_exception)
    if domain_error is not None:
        raise domain_error from context.original_exception
