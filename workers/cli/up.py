"""`aftercall up`: the service, until it is interrupted."""

from __future__ import annotations

import logging

from rich.text import Text

from workers.console import console
from workers.logs import configure_logging
from workers.settings import load_settings


def command() -> None:
    """Run servers (the embedded ones, unless URLs are set) and workers until Ctrl-C or SIGTERM."""
    from workers.supervisor import run_until_interrupted

    settings = load_settings()
    configure_logging(logging.INFO)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # its news are its own inner life
    logs = settings.data_dir / "logs"
    console(stderr=True).print(
        Text(f"Starting. Ctrl-C stops everything; workers write to {logs}"), soft_wrap=True
    )
    run_until_interrupted(settings)
