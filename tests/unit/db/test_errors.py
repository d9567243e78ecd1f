"""From what the driver says to what a caller can act on."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors as pg

from db.errors import (
    DatabaseBehindError,
    DatabaseUnavailableError,
    QueryFailedError,
    StoreError,
    TransactionConflictError,
    ValueUnstorableError,
    translate,
)


@pytest.mark.parametrize(
    ("driver_error", "expected"),
    [
        (psycopg.OperationalError("connection refused"), DatabaseUnavailableError),
        (pg.AdminShutdown("terminating connection"), DatabaseUnavailableError),
        (pg.InvalidPassword("no"), DatabaseUnavailableError),
        (pg.InvalidCatalogName("no such database"), DatabaseUnavailableError),
        (pg.TooManyConnections("too many clients"), DatabaseUnavailableError),
        (pg.DiskFull("no space left"), DatabaseUnavailableError),
        (pg.DeadlockDetected("deadlock"), TransactionConflictError),
        (pg.SerializationFailure("could not serialize"), TransactionConflictError),
        (pg.QueryCanceled("statement timeout"), QueryFailedError),
        (pg.LockNotAvailable("lock timeout"), QueryFailedError),
        (pg.UndefinedTable("no such relation"), QueryFailedError),
        (pg.ReadOnlySqlTransaction("read-only"), QueryFailedError),
        (pg.CharacterNotInRepertoire("NUL"), ValueUnstorableError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_driver_error_becomes_the_domain_error_it_means(
    driver_error: psycopg.Error, expected: type[StoreError]
) -> None:
    assert type(translate(driver_error)) is expected


def test_other_errors_are_left_alone() -> None:
    assert translate(ValueError("x")) is None


def test_a_class_says_what_it_means_when_no_message_is_given() -> None:
    assert "does not answer" in str(DatabaseUnavailableError())


@pytest.mark.parametrize(
    ("missing", "said"), [(1, "1 migration behind"), (3, "3 migrations behind")]
)
def test_behind_counts_in_plain_words(missing: int, said: str) -> None:
    assert said in str(DatabaseBehindError(missing))
