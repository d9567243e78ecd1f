"""The real command on a real database."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from db.session import Database
from tests.integration.workers.samples import Aftercall
from workers.cli import app

# Port 1 is refused at once on every machine.
SILENT_BROKER = "redis://127.0.0.1:1/0"


@pytest.fixture
def aftercall(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Aftercall:
    """Run the command against this module's database, with a broker that does not answer."""
    for name in [name for name in os.environ if name.startswith("AFTERCALL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AFTERCALL_DATABASE_URL", database_url)
    monkeypatch.setenv("AFTERCALL_BROKER_URL", SILENT_BROKER)
    monkeypatch.setenv("AFTERCALL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: str | Path, **environment: str) -> Result:
        result = CliRunner().invoke(app, [str(one) for one in arguments], env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception  # a defect; its traceback belongs in the test's report
        return result

    return run


@pytest.fixture
def no_calls(database: Database) -> None:
    """Begin without calls; scorecards stay."""
    with database.unit_of_work() as session:
        session.connection().exec_driver_sql("TRUNCATE calls RESTART IDENTITY CASCADE")
