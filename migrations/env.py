"""How Alembic runs our migrations: one at a time, each in its own transaction, never waiting long for a lock."""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection, text

from db.models import Base
from db.session import Database

# Any number that no other program on the same database uses.
ADVISORY_LOCK = 4_706_180_115
# A migration that waits for a lock makes every later statement on that table wait behind it; better to fail and be
# run again than to stop the service.
LOCK_TIMEOUT = "2s"


def migrate(connection: Connection) -> None:
    """Run the migrations that are asked for, after any other process that does the same."""
    # Session settings, so that they hold over the transactions of all the migrations.
    connection.execute(text(f"SELECT pg_advisory_lock({ADVISORY_LOCK})"))
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.commit()
    try:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            transaction_per_migration=True,
            compare_server_default=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.rollback()
        connection.execute(text("SET lock_timeout = DEFAULT"))
        connection.execute(text(f"SELECT pg_advisory_unlock({ADVISORY_LOCK})"))
        connection.commit()


given = context.config.attributes.get("connection")
if isinstance(given, Connection):
    migrate(given)
elif given is not None:  # pytest-alembic gives an engine
    with given.connect() as opened:
        migrate(opened)
else:
    with (
        Database(os.environ["AFTERCALL_DATABASE_URL"]) as database,
        database.engine.connect() as opened,
    ):
        migrate(opened)
