"""The commands that read: status, show, report, sql."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from db.session import Database
from tests.integration.db.samples import TURNS, make_transcript
from tests.integration.workers.samples import Aftercall, add_scored_call, rows

pytestmark = pytest.mark.usefixtures("no_calls")


class Page(HTMLParser):
    """What a browser would fetch, run and show."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "rect", "line", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "rect":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_status_of_an_empty_database_says_what_to_do(aftercall: Aftercall) -> None:
    result = aftercall("status")
    assert result.exit_code == 0
    assert result.stdout.startswith("No calls yet. `aftercall ingest PATH`")


def test_status_counts_stages_verdicts_and_failures(
    aftercall: Aftercall, database: Database, tmp_path: Path
) -> None:
    add_scored_call(database)
    (tmp_path / "waiting.wav").write_bytes(b"bytes")
    (tmp_path / "empty.wav").touch()
    aftercall("ingest", tmp_path)
    result = aftercall("status")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["3", "calls:", "1", "received,", "1", "scored,", "1", "rejected"]
    assert ["transcribe", "ready", "1", "1"] in [line[:4] for line in lines]
    assert ["empty", "1"] in lines
    assert any(line[1:3] == ["empty", "rejected"] for line in lines if len(line) > 2)
    told = json.loads(aftercall("status", "--json").stdout)
    assert told["calls"] == {"received": 1, "scored": 1, "rejected": 1}
    assert told["verdicts"] == {"ok": 1, "empty": 1}
    assert told["failures"][0]["reason"] == "holds no bytes"


def test_show_reads_like_a_page(aftercall: Aftercall, database: Database) -> None:
    add_scored_call(database, "CA1")
    result = aftercall("show", "CA1")
    assert result.exit_code == 0
    told = " ".join(result.stdout.split())
    for part in (
        "Call 1 CA1 from local scored",
        "agent salon, inbound",
        "started 2026-11-20 14:03 UTC",
        "verdict ok, 0:10, pcm_mulaw, 8 kHz, stereo",
        "clinic north",
        "2 0:02 caller I would like to book a cut for Friday.",
        "Books a cut for Friday at nine.",
        "outcome booked 75 % 0:06 “You are booked for Friday at nine.”",
        "Lead score: 85 of 100, hot",
    ):
        assert part in told


def test_show_quotes_only_the_transcript_that_a_record_was_made_of(
    aftercall: Aftercall, database: Database
) -> None:
    call_id = add_scored_call(database, "CA1")
    with database.unit_of_work() as session:
        make_transcript(session, call_id, (*TURNS[:2], replace(TURNS[2], text="Other words.")))
    told = " ".join(aftercall("show", "CA1").stdout.split())
    assert "“" not in told
    assert "outcome booked 75 % 0:06 in an earlier transcript" in told


def test_show_takes_number_id_and_source(aftercall: Aftercall, database: Database) -> None:
    add_scored_call(database, "CA1")
    answers = {aftercall("show", name).stdout for name in ("1", "CA1", "local/CA1")}
    assert len(answers) == 1


def test_show_json_has_everything(aftercall: Aftercall, database: Database) -> None:
    add_scored_call(database, "CA1")
    call = json.loads(aftercall("show", "CA1", "--json").stdout)
    assert call["status"] == "scored"
    assert call["transcript"]["transcript"]["turns"][1]["role"] == "caller"
    summary = next(run for run in call["runs"] if run["scorecard"] == "summary")
    assert summary["result"]["outcome"] == "booked"


def test_show_of_a_call_without_speech(aftercall: Aftercall, tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    aftercall("ingest", tmp_path)
    result = aftercall("show", "empty")
    assert result.exit_code == 0
    assert "reason" in result.stdout
    assert "holds no bytes" in result.stdout


def test_show_of_an_unknown_call_is_one_line(aftercall: Aftercall) -> None:
    result = aftercall("show", "nobody")
    assert (result.exit_code, result.stderr) == (1, "aftercall: there is no call 'nobody'\n")


def test_report_prints_tables_and_writes_a_page(
    aftercall: Aftercall, database: Database, tmp_path: Path
) -> None:
    for day in range(4):
        add_scored_call(
            database,
            f"CA{day}",
            started_at=datetime(2026, 11, 20, tzinfo=UTC) + timedelta(days=day),
            moods=("positive", "negative") if day == 0 else ("neutral", "positive"),
            score=20 + 20 * day,
        )
    page_path = tmp_path / "report.html"
    result = aftercall("report", "--html", page_path)
    assert result.exit_code == 0
    told = " ".join(result.stdout.split())
    assert "4 calls, 1 minutes: 4 scored" in told
    assert "4 booked (100 %), 1 hot lead, mean lead score 50, mood fell in 1 call" in told
    page = Page(page_path.read_text())
    assert page.open == []
    assert page.fetched == []
    assert "script" not in page.tags
    assert page.tags.count("svg") == 7
    for part in ("Hot leads", "Moods that fell", "Agents", "CA3", "Nov 20"):
        assert part in page.text


def test_a_page_escapes_what_callers_say(
    aftercall: Aftercall, database: Database, tmp_path: Path
) -> None:
    nasty = "<script>alert(1)</script>"
    add_scored_call(database, nasty, summary=nasty, agent_id=nasty)
    page_path = tmp_path / "report.html"
    aftercall("report", "--html", page_path)
    page = Page(page_path.read_text())
    assert "script" not in page.tags
    assert page.text.count(nasty) >= 3


def test_a_report_of_nothing_and_of_a_period(
    aftercall: Aftercall, database: Database, tmp_path: Path
) -> None:
    assert aftercall("report", "--html", tmp_path / "empty.html").exit_code == 0
    assert Page((tmp_path / "empty.html").read_text()).open == []
    add_scored_call(database, "old", started_at=datetime(2025, 1, 1, tzinfo=UTC))
    add_scored_call(database, "new", started_at=datetime(2026, 1, 1, tzinfo=UTC))
    told = json.loads(aftercall("report", "--since", "2025-06-01", "--json").stdout)
    assert told["overview"]["calls"] == 1
    assert [call["external_id"] for call in told["newest_calls"]] == ["new"]
    assert aftercall("report", "--since", "soon").exit_code == 2


def test_a_page_that_cannot_be_written_is_one_line(aftercall: Aftercall, tmp_path: Path) -> None:
    result = aftercall("report", "--html", tmp_path / "no" / "such" / "folder.html")
    assert result.exit_code == 1
    assert "cannot be written: No such file or directory" in result.stderr
    assert result.stderr.count("\n") == 1


def test_sql_prints_a_table_or_json(aftercall: Aftercall, database: Database) -> None:
    add_scored_call(database, "CA1")
    query = "SELECT external_id, lead_score, NULL AS nothing FROM call_scores WHERE summary LIKE '%cut%'"
    table = aftercall("sql", query)
    assert table.exit_code == 0
    assert [line.split() for line in table.stdout.splitlines() if "CA1" in line] == [["CA1", "85"]]
    assert "(1 row)" in table.stdout
    assert json.loads(aftercall("sql", query, "--json").stdout) == [
        {"external_id": "CA1", "lead_score": 85, "nothing": None}
    ]


def test_sql_keeps_columns_of_one_name_apart(aftercall: Aftercall) -> None:
    told = json.loads(aftercall("sql", "SELECT 1 AS a, 2 AS a, 3 AS b", "--json").stdout)
    assert told == [{"a": 1, "a_2": 2, "b": 3}]


def test_rows_wider_than_the_screen_are_printed_downwards(
    aftercall: Aftercall, database: Database
) -> None:
    add_scored_call(database, "CA1")
    lines = aftercall("sql", "SELECT * FROM call_scores").stdout.splitlines()
    assert lines[0] == "row 1"
    assert ["external_id", "CA1"] in [line.split() for line in lines]
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("DELETE FROM calls", "gives no rows"),
        ("DELETE FROM calls RETURNING id", "read-only transaction"),
        ("EXPLAIN ANALYZE DELETE FROM calls", "read-only transaction"),
        ("WITH gone AS (DELETE FROM calls RETURNING id) SELECT * FROM gone", "read-only"),
        ("DROP TABLE calls CASCADE", "gives no rows"),
        ("COMMIT; DELETE FROM calls", "multiple commands"),
        ("COMMIT; BEGIN; DELETE FROM calls; COMMIT", "multiple commands"),
        ("SET TRANSACTION READ WRITE; DELETE FROM calls; COMMIT", "multiple commands"),
        ("SELECT 1; DELETE FROM calls RETURNING id", "multiple commands"),
        ("DO $$ BEGIN SET ROLE NONE; DELETE FROM calls; END $$", "gives no rows"),
        ("SELECT set_config('transaction_read_only', 'off', true)", "before any query"),
    ],
)
def test_sql_changes_nothing(
    aftercall: Aftercall, database: Database, query: str, reason: str
) -> None:
    add_scored_call(database)
    result = aftercall("sql", query)
    assert result.exit_code == 1
    assert reason in result.stderr
    assert rows(database, "SELECT count(*) FROM calls") == [(1,)]


@pytest.mark.parametrize(
    "query",
    [
        "COPY (SELECT 1) TO '{path}'",
        "COPY (SELECT 1) TO PROGRAM 'touch {path}'",
        "DO $$ BEGIN SET ROLE NONE; COPY (SELECT 1) TO PROGRAM 'touch {path}'; END $$",
        "SELECT set_config('role', 'none', true), query_to_xml('COPY (SELECT 1) TO ''{path}''', true, true, 'x')",
    ],
)
def test_sql_writes_no_file_on_the_server(aftercall: Aftercall, query: str) -> None:
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)  # the server may run as another user
        result = aftercall("sql", query.format(path=Path(directory) / "written"))
        assert result.exit_code == 1
        assert list(Path(directory).iterdir()) == []


def test_sql_reads_without_the_rights_of_a_superuser(
    aftercall: Aftercall, database: Database
) -> None:
    add_scored_call(database)
    query = (
        "SELECT current_setting('is_superuser') AS superuser, count(*) AS calls FROM call_scores"
    )
    assert json.loads(aftercall("sql", query, "--json").stdout) == [
        {"superuser": "off", "calls": 1}
    ]


def test_sql_explains(aftercall: Aftercall) -> None:
    assert "Aggregate" in aftercall("sql", "EXPLAIN SELECT count(*) FROM calls").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("SELECT nope",), 'column "nope" does not exist'),
        (("SELEC 1",), "syntax error"),
        (("SELECT 1/0",), "aftercall: query refused: division by zero"),
        (("SELECT 'infinity'::date",), "date too large"),
        (("SELECT * FROM other.public.calls",), "cross-database references"),
        (("  ",), "the query is empty"),
        (("SELECT pg_sleep(5)", "--timeout", "0.05"), "statement timeout"),
    ],
)
def test_a_query_that_fails_is_one_line(
    aftercall: Aftercall, arguments: tuple[str, ...], message: str
) -> None:
    result = aftercall("sql", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_sql_says_when_there_are_more_rows(aftercall: Aftercall) -> None:
    result = aftercall("sql", "SELECT generate_series(1, 10)", "--limit", "3")
    assert "(3 rows)" in result.stdout
    assert "more rows" in result.stderr
