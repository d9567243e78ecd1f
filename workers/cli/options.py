"""Options that several commands take, read the same way."""

from __future__ import annotations

from datetime import datetime

import typer

from workers.ingest.details import DetailsError, parse_details


def parse_moment(option: str, value: str | None) -> datetime | None:
    """A moment in ISO 8601; UTC if it names no zone. Raises typer.BadParameter naming the option."""
    try:
        return parse_details({"started_at": value}).started_at
    except DetailsError as error:
        message = str(error).removeprefix("started_at: ")
        raise typer.BadParameter(f"--{option}: {message}") from error
