"""What most commands begin with: the settings, the servers they mean, and the database with a schema we know."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from db.enums import Stage
from db.errors import DatabaseBehindError
from db.session import Database
from workers.local.servers import Urls, open_servers
from workers.settings import Settings, load_settings
from workers.upgrade import bring_up_to_date


@dataclass(frozen=True, slots=True)
class Store:
    """An open database, and where the broker is. `urls.broker` None: nobody runs one at the moment."""

    settings: Settings
    urls: Urls
    database: Database


@contextlib.contextmanager
def open_store(settings: Settings | None = None) -> Iterator[Store]:
    """The configured database, that of a running service, or the embedded one started for as long as the block runs.

    The embedded database is brought up to date; a configured one is its owner's. Raises StoreError.
    """
    chosen = settings or load_settings()
    with (
        open_servers(chosen, start_broker=False) as urls,
        Database(urls.database, application="aftercall cli") as database,
    ):
        try:
            database.check_schema_current()
        except DatabaseBehindError:
            if chosen.database_url is not None:
                raise
            bring_up_to_date(database)
        yield Store(chosen, urls, database)


def wake_workers(urls: Urls, stage: Stage) -> bool:
    """Tell the workers of `stage` that there is work. False when no broker answers: they find it later."""
    if urls.broker is None:
        return False
    from workers.celery_app import app
    from workers.wake import wake

    app.conf.broker_url = urls.broker
    return wake(app, stage)
