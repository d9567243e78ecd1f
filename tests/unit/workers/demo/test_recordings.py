"""The recordings that ship: what the manifest says of them, what the media guard finds, what is true of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from analytics.lead_score import LEAD_RULE
from analytics.records import LeadFeatures, Sentiment, Summary
from inference.speech import UnusableRecordingError, read_recording
from workers.demo.make_recordings import RECORDINGS, manifest_rows, read_calls
from workers.ingest.manifest import ManifestRow, read_manifest

TRUTH: dict[str, dict[str, Any]] = json.loads((RECORDINGS / "truth.json").read_text())
ROWS = [row for row in read_manifest(RECORDINGS / "manifest.csv") if isinstance(row, ManifestRow)]
PATHS = {row.details.external_id: RECORDINGS / row.path for row in ROWS}


def test_manifest_truth_script_and_files_name_the_same_calls() -> None:
    shipped = {path for path in RECORDINGS.iterdir() if path.suffix not in (".csv", ".json")}
    assert set(PATHS.values()) == shipped
    assert list(PATHS) == list(TRUTH) == [call.name for call in read_calls()]
    written = [row["started_at"] for row in manifest_rows(read_calls())]
    assert [f"{row.details.started_at:%Y-%m-%dT%H:%M:%SZ}" for row in ROWS] == written


def test_they_show_what_a_team_would_see_and_fit_in_a_clone() -> None:
    assert len({row.details.metadata["vertical"] for row in ROWS}) == 5
    assert len({row.details.agent_id for row in ROWS}) == 3
    assert {path.suffix for path in PATHS.values()} == {".flac", ".mp3", ".ogg", ".m4a", ".wav"}
    tiers = [truth["records"]["score"]["tier"] for truth in TRUTH.values() if truth["records"]]
    assert all(tiers.count(tier) >= 3 for tier in ("hot", "warm", "cold"))
    assert sum(path.stat().st_size for path in PATHS.values()) < 8_000_000


@pytest.mark.parametrize(
    "name", [name for name, truth in TRUTH.items() if truth["verdict"] != "unsupported"]
)
def test_the_media_guard_finds_what_was_planted(name: str) -> None:
    recording = read_recording(PATHS[name], max_seconds=600)
    assert recording.verdict == TRUTH[name]["verdict"]
    assert abs(recording.audio).max() < 1  # nothing clips
    assert all(turn["end_ms"] <= recording.duration_ms for turn in TRUTH[name]["turns"])


def test_an_error_page_is_no_recording() -> None:
    with pytest.raises(UnusableRecordingError) as caught:
        read_recording(PATHS["rental-failed-download"], max_seconds=600)
    assert caught.value.verdict == TRUTH["rental-failed-download"]["verdict"]


@pytest.mark.parametrize("name", [name for name, truth in TRUTH.items() if truth["records"]])
def test_true_records_are_records_and_cite_turns_that_exist(name: str) -> None:
    records, turns = TRUTH[name]["records"], TRUTH[name]["turns"]
    features = LeadFeatures.model_validate(records["lead_score"])
    score = LEAD_RULE.score(features)
    assert records["score"] == {"score": score.score, "tier": score.tier}
    told = (
        features,
        Summary.model_validate(records["summary"]),
        Sentiment.model_validate(records["sentiment"]),
    )
    cited = [
        value
        for record in told
        for field, value in record.model_dump().items()
        if field.endswith("_turn") and value is not None
    ]
    assert all(1 <= turn <= len(turns) for turn in cited)
