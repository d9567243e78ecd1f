"""`aftercall ingest` on a real database: every call once, and one bad input never costs a good one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from db.repository import calls
from db.repository.calls import MediaFacts
from db.session import Database
from tests.integration.workers.samples import Aftercall, rows

pytestmark = pytest.mark.usefixtures("no_calls")

CALLS = "SELECT external_id, coalesce(verdict, '') FROM calls JOIN recordings ON call_id = calls.id ORDER BY calls.id"
JOBS = "SELECT external_id FROM jobs JOIN calls ON calls.id = call_id WHERE stage = 'transcribe' AND state = 'ready'"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two calls in a folder."""
    place = tmp_path / "recordings"
    (place / "monday").mkdir(parents=True)
    (place / "a.wav").write_bytes(b"a's bytes")
    (place / "monday" / "b.mp3").write_bytes(b"b's bytes")
    return place


def outcomes(result: Result) -> dict[str, str]:
    """Outcome by file name, from `--json`."""
    events = [json.loads(line) for line in result.stdout.splitlines()]
    return {
        Path(event["where"]).name: event["outcome"] for event in events if event["event"] == "input"
    }


def messages(result: Result) -> dict[str, Any]:
    events = [json.loads(line) for line in result.stdout.splitlines()]
    return {
        Path(event["where"]).name: event["message"] for event in events if event["event"] == "input"
    }


def test_a_folder_becomes_calls_with_jobs(
    aftercall: Aftercall, database: Database, folder: Path
) -> None:
    result = aftercall("ingest", folder)
    assert result.exit_code == 0
    assert "2 recorded" in result.stdout
    assert rows(database, CALLS) == [("a", ""), ("monday/b", "")]
    assert sorted(rows(database, JOBS)) == [("a",), ("monday/b",)]
    ((uri, size, sha256),) = rows(
        database, "SELECT uri, size_bytes, sha256 FROM recordings WHERE uri LIKE '%a.wav'"
    )
    assert (uri, size, len(sha256)) == (str(folder / "a.wav"), 9, 64)


def test_the_same_folder_twice_adds_nothing(
    aftercall: Aftercall, database: Database, folder: Path
) -> None:
    aftercall("ingest", folder)
    before = rows(database, "SELECT * FROM calls"), rows(database, "SELECT * FROM jobs")
    result = aftercall("ingest", folder, "--json")
    assert result.exit_code == 0
    assert set(outcomes(result).values()) == {"known"}
    assert before == (rows(database, "SELECT * FROM calls"), rows(database, "SELECT * FROM jobs"))


def test_a_broker_that_is_down_is_a_note_and_no_failure(
    aftercall: Aftercall, database: Database, folder: Path
) -> None:
    result = aftercall("ingest", folder)
    assert result.exit_code == 0
    assert result.stderr.count("\n") == 1
    assert "the broker does not answer" in result.stderr
    assert len(rows(database, JOBS)) == 2


def test_options_are_kept_with_the_call(
    aftercall: Aftercall, database: Database, folder: Path
) -> None:
    result = aftercall(
        *("ingest", folder / "a.wav", "--source", "crm", "--external-id", "CA1"),
        *("--agent-id", "salon", "--agent-version", "3", "--agent-channel", "1"),
        *("--direction", "outbound", "--started-at", "2026-11-20T14:03:00Z"),
        *("--campaign", "spring", "--metadata", '{"clinic": "north"}'),
    )
    assert result.exit_code == 0
    (call,) = rows(
        database,
        """SELECT source, external_id, agent_id, agent_version, agent_channel, direction, campaign, metadata,
        started_at = '2026-11-20 14:03Z' FROM calls JOIN recordings ON call_id = calls.id""",
    )
    assert call == (
        *("crm", "CA1", "salon", "3", 1, "outbound", "spring"),
        *({"clinic": "north"}, True),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--metadata", "{bad"), "--metadata: not JSON"),
        (("--started-at", "yesterday"), "--started-at: expected ISO 8601"),
        (("--direction", "up"), "direction"),
        (("--agent-channel", "2"), "agent-channel"),
        (("--source", " "), "--source"),
        (("--external-id", "one"), "--external-id names one call"),
    ],
)
def test_a_bad_option_is_told_and_nothing_is_recorded(
    aftercall: Aftercall, database: Database, folder: Path, options: tuple[str, str], message: str
) -> None:
    result = aftercall("ingest", folder, *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert rows(database, CALLS) == []


def test_nothing_to_ingest_is_bad_usage(aftercall: Aftercall) -> None:
    assert aftercall("ingest").exit_code == 2


def test_bad_files_get_their_verdict_and_good_ones_their_job(
    aftercall: Aftercall, database: Database, folder: Path
) -> None:
    (folder / "empty.wav").touch()
    # a regular file that opens and cannot be read, for root too
    (folder / "unreadable.wav").symlink_to("/proc/self/mem")
    (folder / "vanished.wav").symlink_to(folder / "nowhere")
    (folder / "loop").symlink_to(folder)
    (folder / "text.wav").write_text("this is not audio")
    result = aftercall("ingest", folder, "--json")
    assert result.exit_code == 1
    assert outcomes(result) == {
        "a.wav": "created",
        "b.mp3": "created",
        "text.wav": "created",  # what it is, the media guard decides
        "empty.wav": "rejected",
        "unreadable.wav": "rejected",
        "vanished.wav": "failed",
    }
    assert dict(rows(database, CALLS)) == {
        "a": "",
        "monday/b": "",
        "text": "",
        "empty": "empty",
        "unreadable": "unreadable",
    }
    assert sorted(rows(database, JOBS)) == [("a",), ("monday/b",), ("text",)]
    assert dict(rows(database, "SELECT external_id, status FROM call_scores")) == {
        **dict.fromkeys(("a", "monday/b", "text"), "received"),
        **dict.fromkeys(("empty", "unreadable"), "rejected"),
    }


def test_each_bad_file_is_one_clear_line(aftercall: Aftercall, folder: Path) -> None:
    (folder / "empty.wav").touch()
    result = aftercall("ingest", folder)
    (line,) = [line for line in result.stdout.splitlines() if "empty.wav" in line]
    assert line.split() == [
        *("rejected", "2", str(folder / "empty.wav")),
        *("empty:", "holds", "no", "bytes"),
    ]


def test_a_recording_that_can_be_read_again_is_recovered(
    aftercall: Aftercall, database: Database, folder: Path
) -> None:
    (folder / "c.wav").symlink_to("/proc/self/mem")
    aftercall("ingest", folder)
    (folder / "c.wav").unlink()
    (folder / "c.wav").write_bytes(b"c's bytes")
    result = aftercall("ingest", folder, "--json")
    assert result.exit_code == 0
    assert outcomes(result) == {"a.wav": "known", "b.mp3": "known", "c.wav": "recovered"}
    assert dict(rows(database, CALLS))["c"] == ""
    assert ("c",) in rows(database, JOBS)


def test_a_file_that_was_half_written_is_recovered_when_it_is_whole(
    aftercall: Aftercall, database: Database, folder: Path
) -> None:
    (folder / "a.wav").write_bytes(b"half")
    aftercall("ingest", folder)
    with database.unit_of_work() as session:  # as the worker leaves it, which finds other bytes
        (stored,) = calls.recordings_of(session, [1]).values()
        calls.record_facts(session, stored.id, MediaFacts("missing", "holds other bytes"))
        session.connection().exec_driver_sql("DELETE FROM jobs")
    (folder / "a.wav").write_bytes(b"half and the rest")
    result = aftercall("ingest", folder, "--json")
    assert result.exit_code == 0
    assert outcomes(result) == {"a.wav": "recovered", "b.mp3": "known"}
    assert rows(database, CALLS) == [("a", ""), ("monday/b", "")]
    assert rows(database, JOBS) == [("a",)]
    assert set(outcomes(aftercall("ingest", folder, "--json")).values()) == {"known"}


def test_files_without_bytes_are_calls_of_their_own(
    aftercall: Aftercall, database: Database, folder: Path
) -> None:
    for name in ("c.wav", "d.wav"):
        (folder / name).touch()
    for _ in range(2):
        told = outcomes(aftercall("ingest", folder, "--json"))
        assert (told["c.wav"], told["d.wav"]) == ("rejected", "rejected")
        verdicts = dict(rows(database, CALLS))
        assert (verdicts["c"], verdicts["d"]) == ("empty", "empty")
    for name in ("c.wav", "d.wav"):
        (folder / name).write_text(f"{name}'s bytes")
    told = outcomes(aftercall("ingest", folder, "--json"))
    assert (told["c.wav"], told["d.wav"]) == ("recovered", "recovered")
    assert {("c",), ("d",)} <= set(rows(database, JOBS))


def test_the_same_bytes_under_two_names_are_one_call(
    aftercall: Aftercall, database: Database, folder: Path
) -> None:
    (folder / "copy.wav").write_bytes(b"a's bytes")
    result = aftercall("ingest", folder, "--json")
    assert result.exit_code == 0
    assert outcomes(result)["copy.wav"] == "duplicate"
    assert messages(result)["copy.wav"] == "the same bytes as call 1"
    assert [name for name, _ in rows(database, CALLS)] == ["a", "monday/b"]


def test_two_recordings_of_one_call_are_a_conflict_and_the_first_is_kept(
    aftercall: Aftercall, database: Database, folder: Path
) -> None:
    (folder / "a.mp3").write_bytes(b"other bytes")
    result = aftercall("ingest", folder, "--json")
    assert result.exit_code == 1
    assert outcomes(result) == {"a.mp3": "created", "a.wav": "conflict", "b.mp3": "created"}
    assert "another recording, which is kept" in messages(result)["a.wav"]
    ((uri,),) = rows(
        database,
        "SELECT uri FROM recordings JOIN calls ON calls.id = call_id WHERE external_id = 'a'",
    )
    assert uri.endswith("a.mp3")


def test_the_same_name_from_another_source_is_another_call(
    aftercall: Aftercall, database: Database, folder: Path
) -> None:
    aftercall("ingest", folder / "a.wav")
    (folder / "a.wav").write_bytes(b"another day's bytes")
    assert aftercall("ingest", folder / "a.wav").exit_code == 1
    assert aftercall("ingest", folder / "a.wav", "--source", "tuesday").exit_code == 0
    assert [name for name, _ in rows(database, CALLS)] == ["a", "a"]


def test_a_manifest_brings_each_call_its_own_details(
    aftercall: Aftercall, database: Database, folder: Path
) -> None:
    manifest = folder / "calls.csv"
    manifest.write_text(
        "path,external_id,agent_id,started_at,agent_channel,metadata,unheard\n"
        'a.wav,CA1,salon,2026-11-20T10:00:00Z,1,"{""x"": 1}",\n'
        "monday/b.mp3,CA2,,not a time,,,\n"
        "monday/b.mp3,CA3,,,,,\n"
        "nope.wav,CA4,,,,,\n"
        "a.wav,CA5,too,few\n"
    )
    result = aftercall("ingest", "--manifest", manifest, "--agent-id", "default")
    assert result.exit_code == 1
    for line in (1, 3, 5, 6):
        assert f"calls.csv line {line}  " in result.stdout
    assert "2 recorded, 4 with a problem" in result.stdout
    assert rows(
        database,
        "SELECT external_id, agent_id, agent_channel, metadata FROM calls JOIN recordings ON call_id = calls.id",
    ) == [("CA1", "salon", 1, {"x": 1}), ("CA3", "default", None, {})]


def test_a_manifest_that_cannot_be_used_is_one_line(aftercall: Aftercall, folder: Path) -> None:
    manifest = folder / "calls.csv"
    manifest.write_text("file;id\n")
    result = aftercall("ingest", "--manifest", manifest)
    assert result.exit_code == 1
    assert result.stderr.startswith("aftercall: manifest")
    assert result.stderr.count("\n") == 1


def test_text_that_postgres_cannot_store_costs_its_call_only(
    aftercall: Aftercall, database: Database, folder: Path
) -> None:
    manifest = folder / "calls.csv"
    manifest.write_text('path,metadata\na.wav,"{""x"": ""\\u0000""}"\nmonday/b.mp3,\n')
    result = aftercall("ingest", "--manifest", manifest, "--json")
    assert result.exit_code == 1
    assert outcomes(result) == {"a.wav": "failed", "b.mp3": "created"}
    assert rows(database, CALLS) == [("monday/b", "")]


def test_a_database_that_is_down_is_one_line(aftercall: Aftercall, folder: Path) -> None:
    result = aftercall("ingest", folder, AFTERCALL_DATABASE_URL="postgresql://u:p@127.0.0.1:1/x")
    assert result.exit_code == 1
    assert result.stderr.startswith("aftercall: the database does not answer")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.output


def test_many_files_are_taken_in_order(
    aftercall: Aftercall, database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02}.wav").write_bytes(os.urandom(64))
    result = aftercall("ingest", f"{folder}/*.wav", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout.splitlines()[-1])["created"] == 60
    assert [name for name, _ in rows(database, CALLS)] == [f"{number:02}" for number in range(60)]
