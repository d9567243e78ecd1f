"""The commands that change or check: reprocess, db upgrade, doctor; and what each says when it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from db import queue
from db.enums import Stage
from db.repository import calls
from db.session import Database
from tests.integration.conftest import MakeDatabase
from tests.integration.workers.samples import Aftercall, add_scored_call, rows

READY = """SELECT external_id, stage, scorecards FROM jobs JOIN calls ON calls.id = call_id
    WHERE state = 'ready' ORDER BY 1"""


@pytest.fixture
def three_calls(database: Database, no_calls: None) -> None:
    add_scored_call(database, "a", agent_id="salon")
    add_scored_call(database, "b", agent_id="clinic")
    add_scored_call(database, "c", agent_id="clinic")


def fail(database: Database, external_id: str, stage: Stage) -> None:
    """Ask for a stage of a call once more, in vain."""
    with database.unit_of_work() as session:
        queue.enqueue(session, [calls.find_call(session, external_id)], stage)
        lease = queue.claim(session, stage, worker="w", limit=1)
        assert lease is not None
        error = RuntimeError("the store was down")
        queue.fail(session, lease.token, lease.ids[0], error=error, permanent=True)


@pytest.mark.usefixtures("three_calls")
class TestReprocess:
    def test_without_yes_it_counts(self, aftercall: Aftercall, database: Database) -> None:
        result = aftercall("reprocess", "--agent", "clinic")
        assert result.exit_code == 0
        assert "2 calls from analyze would be reprocessed; --yes does it." in result.stdout
        assert rows(database, READY) == []

    def test_with_yes_it_queues_and_keeps_runs(
        self, aftercall: Aftercall, database: Database
    ) -> None:
        before = rows(database, "SELECT count(*) FROM analysis_runs")
        result = aftercall("reprocess", "--agent", "clinic", "--yes")
        assert result.exit_code == 0
        assert "2 calls queued from analyze" in result.stdout
        assert rows(database, READY) == [("b", "analyze", None), ("c", "analyze", None)]
        assert rows(database, "SELECT count(*) FROM analysis_runs") == before

    def test_from_the_audio(self, aftercall: Aftercall, database: Database) -> None:
        aftercall("reprocess", "--call", "a", "--call", "2", "--from", "transcribe", "--yes")
        assert rows(database, READY) == [("a", "transcribe", None), ("b", "transcribe", None)]

    def test_one_scorecard(self, aftercall: Aftercall, database: Database) -> None:
        aftercall("reprocess", "--call", "a", "--scorecard", "summary", "--yes")
        assert rows(database, READY) == [("a", "analyze", ["summary"])]

    def test_by_status_and_time(self, aftercall: Aftercall, database: Database) -> None:
        assert "No call" in aftercall("reprocess", "--status", "failed").stdout
        assert "No call" in aftercall("reprocess", "--until", "2026-11-20", "--yes").stdout
        options = ("--status", "scored", "--since", "2026-11-20", "--until", "2026-11-21")
        assert "3 calls" in aftercall("reprocess", *options).stdout
        assert "3 calls" in aftercall("reprocess", "--all").stdout

    def test_a_failed_call_is_taken_up_where_it_failed(
        self, aftercall: Aftercall, database: Database
    ) -> None:
        fail(database, "a", "transcribe")
        fail(database, "b", "analyze")
        asked = aftercall("reprocess", "--status", "failed")
        assert "1 call from transcribe and 1 call from analyze would be" in asked.stdout
        assert rows(database, READY) == []
        told = aftercall("reprocess", "--status", "failed", "--yes")
        queued = "1 call queued from transcribe and 1 call queued from analyze; earlier runs"
        assert queued in " ".join(told.stdout.split())
        assert rows(database, READY) == [("a", "transcribe", None), ("b", "analyze", None)]

    def test_a_failed_transcription_goes_before_one_scorecard(
        self, aftercall: Aftercall, database: Database
    ) -> None:
        fail(database, "a", "transcribe")
        aftercall("reprocess", "--all", "--scorecard", "summary", "--yes")
        assert rows(database, READY) == [
            ("a", "transcribe", None),
            ("b", "analyze", ["summary"]),
            ("c", "analyze", ["summary"]),
        ]

    def test_where_to_begin_can_be_told_for_failed_calls_too(
        self, aftercall: Aftercall, database: Database
    ) -> None:
        fail(database, "a", "transcribe")
        aftercall("reprocess", "--status", "failed", "--from", "analyze", "--yes")
        assert rows(database, READY) == [("a", "analyze", None)]

    @pytest.mark.parametrize(
        ("options", "code", "message"),
        [
            ((), 2, "say which calls"),
            (("--status", "lost"), 2, "'lost' is none of"),
            (("--all", "--from", "audio"), 2, "--from"),
            (("--all", "--from", "transcribe", "--scorecard", "summary"), 2, "--scorecard"),
            (("--since", "soon"), 2, "--since: expected ISO 8601"),
            (("--call", "nobody"), 1, "there is no call 'nobody'"),
            (("--all", "--scorecard", "nope"), 1, "there is no scorecard 'nope'"),
        ],
    )
    def test_what_it_refuses(
        self,
        aftercall: Aftercall,
        database: Database,
        options: tuple[str, ...],
        code: int,
        message: str,
    ) -> None:
        result = aftercall("reprocess", *options, "--yes")
        assert result.exit_code == code
        assert message in " ".join(result.stderr.split())
        assert rows(database, READY) == []


def test_calls_without_a_transcript_are_left_out_and_told(
    aftercall: Aftercall, database: Database, no_calls: None, tmp_path: Path
) -> None:
    (tmp_path / "new.wav").write_bytes(b"bytes")
    aftercall("ingest", tmp_path)
    result = aftercall("reprocess", "--all", "--yes")
    assert result.exit_code == 0
    assert "1 call left out: no transcript" in result.stderr
    assert rows(database, READY) == [("new", "transcribe", None)]


def test_an_empty_database_is_refused_until_it_is_upgraded(
    aftercall: Aftercall, make_empty_database: MakeDatabase
) -> None:
    with make_empty_database() as url:
        behind = aftercall("status", AFTERCALL_DATABASE_URL=url)
        assert behind.exit_code == 1
        assert "behind, run `aftercall db upgrade`" in behind.stderr
        assert behind.stderr.count("\n") == 1
        upgraded = aftercall("db", "upgrade", AFTERCALL_DATABASE_URL=url)
        assert upgraded.exit_code == 0
        assert "(was empty)" in upgraded.stdout
        assert aftercall("status", AFTERCALL_DATABASE_URL=url).exit_code == 0
        again = aftercall("db", "upgrade", AFTERCALL_DATABASE_URL=url)
        assert "The schema is current" in again.stdout
        with Database(url) as database:
            assert rows(
                database, "SELECT name FROM scorecards WHERE status = 'promoted' ORDER BY name"
            ) == [("lead_score",), ("sentiment",), ("summary",)]


def test_a_database_one_migration_ahead_is_one_line(
    aftercall: Aftercall, make_database: MakeDatabase
) -> None:
    with make_database() as url:
        with Database(url) as database, database.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        result = aftercall("ingest", "x.wav", AFTERCALL_DATABASE_URL=url)
        assert result.exit_code == 1
        assert "9999" in result.stderr
        assert "upgrade Aftercall" in result.stderr


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"AFTERCALL_NONSENSE": "1"}, "unknown setting AFTERCALL_NONSENSE"),
        ({"AFTERCALL_DATABASE_URL": "mysql://x"}, "AFTERCALL_DATABASE_URL: must be a Postgres URL"),
        ({"AFTERCALL_MAX_ATTEMPTS": "many"}, "AFTERCALL_MAX_ATTEMPTS: "),
    ],
)
@pytest.mark.parametrize("command", ["status", "ingest", "doctor", "up", "demo"])
def test_a_bad_setting_is_one_line_from_every_command(
    aftercall: Aftercall, command: str, environment: dict[str, str], message: str
) -> None:
    arguments = (command, "x.wav") if command == "ingest" else (command,)
    result = aftercall(*arguments, **environment)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_doctor_tells_what_is_missing_and_how_to_get_it(
    aftercall: Aftercall, tmp_path: Path
) -> None:
    result = aftercall(
        "doctor",
        AFTERCALL_ASR_MODEL=str(tmp_path),
        AFTERCALL_DLLM_MODEL=str(tmp_path / "nowhere" / "at" / "all"),
    )
    assert result.exit_code == 1
    told = " ".join(result.stdout.split())
    for part in (
        "ok schema current",
        "missing broker redis://127.0.0.1:1/0 does not answer",
        "has no config.json, model.bin, tokenizer.json → set AFTERCALL_ASR_MODEL",
        "is no directory → correct AFTERCALL_DLLM_MODEL",
    ):
        assert part in told


def test_doctor_does_not_print_passwords(aftercall: Aftercall) -> None:
    result = aftercall(
        "doctor",
        AFTERCALL_DATABASE_URL="postgresql://user:hush@127.0.0.1:1/x",
        AFTERCALL_BROKER_URL="redis://:hush@127.0.0.1:1/0",
    )
    assert result.exit_code == 1
    assert "hush" not in result.output
    assert "postgresql://user:***@127.0.0.1:1/x" in result.stdout


def test_version_and_help(aftercall: Aftercall) -> None:
    assert aftercall("--version").stdout.startswith("aftercall ")
    assert "ingest" in aftercall("--help").stdout
    assert aftercall("nonsense").exit_code == 2
