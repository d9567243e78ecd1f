"""A session that is rolled back after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session

from db.session import Database


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """A session on one connection whose transaction never commits, whatever the test does."""
    with database.engine.connect() as connection:
        transaction = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as opened:
            yield opened
        transaction.rollback()
