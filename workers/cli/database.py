"""`aftercall db`: the schema."""

from __future__ import annotations

import typer

from db import migrate
from db.session import Database
from workers.console import console
from workers.local.servers import open_servers
from workers.settings import load_settings
from workers.upgrade import bring_up_to_date

app = typer.Typer(no_args_is_help=True, help="The database's schema.")


@app.callback()
def _group() -> None:
    """The database's schema."""


@app.command("upgrade")
def upgrade() -> None:
    """Bring the schema up to this version. Run it once after installing or upgrading Aftercall."""
    with (
        open_servers(load_settings(), start_broker=False) as urls,
        Database(urls.database, application="aftercall cli") as database,
    ):
        with database.engine.connect() as connection:
            before = migrate.current_revision(connection)
        bring_up_to_date(database)
        with database.engine.connect() as connection:
            after = migrate.current_revision(connection)
    if before == after:
        console().print(f"The schema is current (revision {after}).")
    else:
        console().print(f"The schema is now at revision {after} (was {before or 'empty'}).")
