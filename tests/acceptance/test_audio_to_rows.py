"""Real audio through the real processes to rows: good calls, and beside them everything that can be wrong with one.

All inputs are ingested by one command while nothing else runs; then the service is started and ends what it was given.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.acceptance.conftest import MakeService
from tests.acceptance.recordings import (
    spoken,
    write_float_wav,
    write_forbidden,
    write_long_wav,
    write_wav,
)
from tests.acceptance.service import Service

SCORECARDS = {"summary", "sentiment", "lead_score"}
GOOD = ("good", "also-good")


@dataclass(frozen=True)
class Bad:
    """What is to become of a bad file: at ingest, in the end, and what is told of it."""

    outcome: str
    verdict: str
    status: str
    message: str


BAD = {
    "zero-bytes.wav": Bad("rejected", "empty", "rejected", "holds no bytes"),
    "text.wav": Bad("created", "unsupported", "rejected", "is not a recording"),
    "cut-header.wav": Bad("created", "corrupt", "rejected", "damaged header"),
    "three-channels.wav": Bad("created", "unsupported", "rejected", "has 3 channels"),
    "no-sound.wav": Bad("created", "empty", "rejected", "0 seconds"),
    "four-hours.wav": Bad("created", "too_long", "rejected", "longer than 180 minutes"),
    "not-numbers.wav": Bad("created", "corrupt", "rejected", "not numbers"),
    "forbidden.wav": Bad("rejected", "unreadable", "rejected", "cannot be read"),
    "vanished.wav": Bad("created", "missing", "rejected", "does not exist any more"),
}
USABLE = {"cut-data": "truncated", "eight-bit": "ok"}
MANIFEST = """\
path,external_id,agent_id,metadata
listed.wav,listed,salon,"{""clinic"": ""north""}"
listed.wav
nowhere.wav,nowhere,salon,
bad-metadata.wav,bad-metadata,salon,{clinic}
rival.wav,listed,salon,
"""


@dataclass(frozen=True)
class World:
    """A service that has been given everything."""

    service: Service
    folder: Path
    told: dict[str, dict[str, Any]]
    told_of_manifest: dict[str, dict[str, Any]]
    statuses: dict[str, str]


def write_inputs(folder: Path) -> None:
    folder.mkdir()
    for number, name in enumerate(GOOD):
        write_wav(folder / f"{name}.wav", spoken(number))
    shutil.copy(folder / "good.wav", folder / "same-as-good.wav")
    whole = write_wav(folder / "cut-data.wav", spoken(2)).read_bytes()
    (folder / "cut-data.wav").write_bytes(whole[: len(whole) * 6 // 10])
    write_wav(folder / "eight-bit.wav", ((spoken(3) >> 8) + 128).astype(np.uint8))
    (folder / "zero-bytes.wav").touch()
    (folder / "text.wav").write_text("Dear customer, this is not a recording.\n" * 50)
    (folder / "cut-header.wav").write_bytes(whole[:20])
    three = np.concatenate([spoken(4), spoken(4)[:, :1]], axis=1)
    write_wav(folder / "three-channels.wav", three)
    write_wav(folder / "no-sound.wav", spoken(0)[:0])
    write_long_wav(folder / "four-hours.wav", hours=4)
    write_float_wav(folder / "not-numbers.wav", np.full((16_000, 2), np.nan))
    write_forbidden(folder / "forbidden.wav")
    write_wav(folder / "vanished.wav", spoken(5))
    (folder / "loop").symlink_to(folder, target_is_directory=True)


def write_manifest(folder: Path) -> Path:
    folder.mkdir()
    write_wav(folder / "listed.wav", spoken(6))
    write_wav(folder / "rival.wav", spoken(7))
    write_wav(folder / "bad-metadata.wav", spoken(8))
    manifest = folder / "manifest.csv"
    manifest.write_text(MANIFEST)
    return manifest


@pytest.fixture(scope="module")
def world(make_service: MakeService, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("inputs") / "calls"
    write_inputs(folder)
    manifest = write_manifest(folder.with_name("listed"))
    service = make_service()
    told = service.ingest(folder)
    told_of_manifest = service.ingest("--manifest", manifest)
    (folder / "vanished.wav").unlink()
    service.up()
    num_calls = len(GOOD) + len(BAD) + len(USABLE) + 1
    statuses = service.wait_until_ended(num_calls)
    return World(service, folder, told, told_of_manifest, statuses)


@pytest.mark.parametrize("name", [*GOOD, *USABLE, "listed"])
def test_a_good_call_is_scored_whatever_lies_beside_it(world: World, name: str) -> None:
    assert world.statuses[name] == "scored", world.service.describe()
    rows = world.service.query(
        "SELECT scorecards.name, run.status FROM analysis_runs run "
        "JOIN scorecards ON scorecards.id = scorecard_id JOIN calls ON calls.id = call_id "
        f"WHERE external_id = '{name}'"
    )
    assert dict(rows) == dict.fromkeys(SCORECARDS, "ok")
    assert len(rows) == len(SCORECARDS)


def test_a_call_s_rows_hold_together(world: World) -> None:
    [(call_id, score, tier, summary)] = world.service.query(
        "SELECT call_id, lead_score, lead_tier, summary FROM call_scores WHERE external_id = 'good'"
    )
    assert 0 <= score <= 100
    assert tier in {"hot", "warm", "cold", "unqualified"}
    assert summary
    turns = world.service.query(
        "SELECT number, role, start_ms, end_ms, text FROM turns JOIN transcripts t "
        f"ON t.id = transcript_id WHERE call_id = {call_id} ORDER BY number"
    )
    assert [number for number, *_ in turns] == list(range(1, len(turns) + 1))
    assert {role for _, role, *_ in turns} == {"agent", "caller"}
    assert all(0 <= start < end and text.strip() for _, _, start, end, text in turns)
    [(agent_ms, caller_ms)] = world.service.query(
        "SELECT talk_time_agent_ms, talk_time_caller_ms FROM call_metrics m "
        f"JOIN transcripts t ON t.id = m.transcript_id WHERE call_id = {call_id}"
    )
    assert agent_ms > 0
    assert caller_ms > 0


def test_a_person_can_read_a_call(world: World) -> None:
    shown = world.service.run("show", "good").stdout
    [(text,)] = world.service.query(
        "SELECT text FROM turns JOIN transcripts t ON t.id = transcript_id "
        "JOIN calls ON calls.id = call_id WHERE external_id = 'good' AND number = 1"
    )
    assert text.split()[0] in shown
    for title in ("Transcript", "Summary", "Sentiment", "Lead score"):
        assert title in shown


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gets_its_verdict(world: World, name: str) -> None:
    expected = BAD[name]
    assert world.told[str(world.folder / name)]["outcome"] == expected.outcome
    stem = Path(name).stem
    assert world.statuses[stem] == expected.status
    [(verdict, reason)] = world.service.query(
        "SELECT verdict, reason FROM call_status s JOIN calls ON calls.id = s.call_id "
        f"JOIN recordings r ON r.call_id = calls.id WHERE external_id = '{stem}'"
    )
    assert verdict == expected.verdict
    assert expected.message in reason
    assert "\n" not in reason


def test_a_person_is_told_what_is_wrong_with_a_file(world: World) -> None:
    shown = " ".join(world.service.run("show", "three-channels").stdout.split())
    assert "unsupported" in shown
    assert "has 3 channels; one or two are expected" in shown


@pytest.mark.parametrize("name", USABLE)
def test_a_flawed_recording_carries_its_verdict_and_is_scored(world: World, name: str) -> None:
    rows = world.service.query(
        f"SELECT verdict FROM recordings JOIN calls ON calls.id = call_id WHERE external_id = '{name}'"
    )
    assert rows == [(USABLE[name],)]


def test_the_same_bytes_under_two_names_are_one_call(world: World) -> None:
    told = [world.told[str(world.folder / name)] for name in ("same-as-good.wav", "good.wav")]
    assert sorted(one["outcome"] for one in told) == ["created", "duplicate"]
    [duplicate] = [one for one in told if one["outcome"] == "duplicate"]
    assert f"the same bytes as call {duplicate['call_id']}" in duplicate["message"]


def test_a_folder_that_contains_itself_is_read_once(world: World) -> None:
    assert not [where for where in world.told if "/loop/" in where]


def test_a_bad_manifest_row_is_told_by_its_line(world: World) -> None:
    told = {
        where.rpartition(" line ")[2]: one["message"]
        for where, one in world.told_of_manifest.items()
        if one.get("outcome") == "failed"
    }
    assert set(told) == {"3", "4", "5"}
    assert told["3"] == "has 1 fields, the header has 4"
    assert told["4"] == "nowhere.wav does not exist"
    assert "metadata: not JSON" in told["5"]
    [(metadata,)] = world.service.query("SELECT metadata FROM calls WHERE external_id = 'listed'")
    assert metadata == {"clinic": "north"}


def test_a_second_recording_for_a_call_is_a_conflict_and_the_first_is_kept(world: World) -> None:
    [conflict] = [
        one for one in world.told_of_manifest.values() if one.get("outcome") == "conflict"
    ]
    assert conflict["where"].endswith("rival.wav")
    assert "another recording, which is kept" in conflict["message"]
    [(uri,)] = world.service.query(
        "SELECT uri FROM recordings JOIN calls ON calls.id = call_id WHERE external_id = 'listed'"
    )
    assert uri.endswith("listed.wav")


def test_metadata_that_is_no_json_is_told_before_anything_is_recorded(world: World) -> None:
    result = world.service.run("ingest", world.folder / "good.wav", "--metadata", "{clinic}")
    assert result.returncode == 2
    assert "--metadata" in result.stderr
    assert "not JSON" in result.stderr


def test_the_same_folder_again_adds_nothing(world: World) -> None:
    tables = ("calls", "recordings", "jobs", "transcripts", "analysis_runs")
    counting = "SELECT " + ", ".join(f"(SELECT count(*) FROM {name})" for name in tables)
    before = world.service.query(counting)
    summary = world.service.ingest(world.folder)["summary"]
    assert summary["created"] == summary["recovered"] == 0
    assert summary["known"] + summary["rejected"] >= len(GOOD)
    world.service.wait_until_ended(len(world.statuses))
    assert world.service.query(counting) == before


def test_the_status_is_told_in_one_document(world: World) -> None:
    told = json.loads(world.service.run("status", "--json").stdout)
    assert told["calls"] == {
        "scored": len(GOOD) + len(USABLE) + 1,
        "rejected": len(BAD),
    }
    assert told["verdicts"]["missing"] == 1


def test_the_service_stops_and_leaves_nothing_running(world: World) -> None:
    assert world.service.stop() == 0
    assert world.service.processes() == []
    logs = sorted(world.service.data_dir.glob("logs/*.log"))
    assert [log.stem for log in logs] == ["analyze", "sweep", "transcribe"]
    for log in logs:
        assert "Traceback" not in log.read_text()
