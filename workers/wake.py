"""Waking workers up: a message per stage, worth nothing in itself. What is due stands in Postgres."""

from __future__ import annotations

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from db.enums import Stage

log = structlog.get_logger(__name__)
# An unread wake-up is stale after this: the sweeper has sent a newer one.
EXPIRES_S = 60
CONNECT_TIMEOUT_S = 3


def wake(app: Celery, stage: Stage) -> bool:
    """Tell one worker of `stage` to look for work. False when the broker is down; the sweeper repeats it later."""
    try:
        with app.connection_for_write(connect_timeout=CONNECT_TIMEOUT_S) as connection:
            connection.ensure_connection(max_retries=1, timeout=CONNECT_TIMEOUT_S)
            app.send_task(
                f"workers.tasks.{stage}",
                queue=stage,
                expires=EXPIRES_S,
                connection=connection,
                retry=False,
            )
    except (OperationalError, OSError) as error:
        log.warning(
            "broker does not answer; the work is recorded and waits", stage=stage, error=str(error)
        )
        return False
    return True
