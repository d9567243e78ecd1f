"""Typed errors become one line on standard error and an exit code; anything else is a defect with its traceback."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from db.errors import StoreError
from workers.console import print_error
from workers.ingest.manifest import ManifestError
from workers.local.broker import LocalBrokerError
from workers.local.postgres import LocalPostgresError
from workers.local.servers import DataDirectoryBusyError
from workers.scorecard_file import ScorecardFileError
from workers.settings import SettingsError

EXIT_FAILED = 1
EXIT_USAGE = 2


class CommandError(Exception):
    """A command cannot do what it was asked to; the message is for the person who asked."""


EXPECTED = (
    CommandError,
    DataDirectoryBusyError,
    LocalBrokerError,
    LocalPostgresError,
    ManifestError,
    ScorecardFileError,
    SettingsError,
    StoreError,
)


class CommandGroup(TyperGroup):
    """The commands, with expected errors told in one line."""

    def invoke(self, ctx: Any) -> object:
        """Run a command. Raises typer.Exit instead of an expected error."""
        try:
            return super().invoke(ctx)
        except EXPECTED as error:
            print_error(str(error))
            raise typer.Exit(EXIT_FAILED) from error
