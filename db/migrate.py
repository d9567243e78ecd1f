"""Moving the schema up and down, and telling how far it is."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine

from db.errors import DatabaseAheadError, DatabaseBehindError


def config() -> Config:
    """Alembic's configuration, for the migrations installed beside this package."""
    found = Config()
    found.set_main_option("script_location", str(Path(str(files("migrations")))).replace("%", "%%"))
    return found


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the schema up to `revision`. Another process doing the same is waited for."""
    _run(command.upgrade, engine, revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Take the schema down to `revision`; `base` removes every table of ours and their data."""
    _run(command.downgrade, engine, revision)


def current_revision(connection: Connection) -> str | None:
    """The schema's revision, or None for an empty database."""
    return MigrationContext.configure(connection).get_current_revision()


def check_current(connection: Connection) -> None:
    """Raise DatabaseBehindError or DatabaseAheadError unless the schema is at the newest revision known here."""
    script = ScriptDirectory.from_config(config())
    revision = current_revision(connection)
    if revision is not None:
        try:
            script.get_revision(revision)
        except CommandError as error:
            raise DatabaseAheadError(revision) from error
    missing = list(script.iterate_revisions("head", revision or "base"))
    if missing:
        raise DatabaseBehindError(len(missing))


def _run(verb: Callable[[Config, str], None], engine: Engine, revision: str) -> None:
    with engine.connect() as connection:
        settings = config()
        settings.attributes["connection"] = connection
        verb(settings, revision)
