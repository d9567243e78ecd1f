"""Object stores by the same verb, through obstore's own stores in memory and on disk."""

from pathlib import Path

import pytest
from obstore.store import LocalStore, MemoryStore

from workers.ingest import objects
from workers.ingest.find import Found, Problem, Skipped, find
from workers.ingest.intake import read_recording
from workers.ingest.objects import ObjectStoreError

KEYS = ("calls/a.wav", "calls/monday/b#1 50%.ogg", "calls/readme.md", "callsigns/c.wav", "top.wav")


@pytest.fixture(params=["memory", "disk"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> objects.OpenStore:
    store = MemoryStore() if request.param == "memory" else LocalStore(tmp_path)
    for key in KEYS:
        store.put(key, key.encode())
    return lambda root: {"s3://bucket": store}[root]


def ids(uri: str, bucket: objects.OpenStore) -> dict[str, str]:
    return {
        item.uri: item.default_id for item in find(uri, opened=bucket) if isinstance(item, Found)
    }


def test_a_prefix_gives_what_lies_below_it_and_nothing_beside_it(bucket: objects.OpenStore) -> None:
    expected = {
        "s3://bucket/calls/a.wav": "a",
        "s3://bucket/calls/monday/b#1 50%.ogg": "monday/b#1 50%",
    }
    assert ids("s3://bucket/calls", bucket) == expected
    assert ids("s3://bucket/calls/", bucket) == expected


def test_a_bucket_gives_everything(bucket: objects.OpenStore) -> None:
    assert list(ids("s3://bucket", bucket).values()) == [
        "calls/a",
        "calls/monday/b#1 50%",
        "callsigns/c",
        "top",
    ]


def test_an_object_gives_itself_whatever_its_name(bucket: objects.OpenStore) -> None:
    assert ids("s3://bucket/calls/readme.md", bucket) == {
        "s3://bucket/calls/readme.md": "readme.md"
    }


def test_wildcards_select_keys(bucket: objects.OpenStore) -> None:
    assert ids("s3://bucket/calls*.wav", bucket) == {
        "s3://bucket/calls/a.wav": "calls/a",
        "s3://bucket/callsigns/c.wav": "callsigns/c",
    }
    assert list(ids("s3://bucket/calls/[a-b]*", bucket).values()) == ["a"]


def test_other_objects_are_left_alone_and_nothing_is_told(bucket: objects.OpenStore) -> None:
    (skipped,) = [
        item for item in find("s3://bucket/calls", opened=bucket) if isinstance(item, Skipped)
    ]
    assert skipped.uri == "s3://bucket/calls/readme.md"
    (nothing,) = list(find("s3://bucket/nowhere/", opened=bucket))
    assert nothing == Problem("s3://bucket/nowhere/", "nothing is there")


def test_bytes_are_hashed_and_a_lost_object_is_a_problem(bucket: objects.OpenStore) -> None:
    recording = read_recording("s3://bucket/calls/monday/b#1 50%.ogg", opened=bucket)
    assert not isinstance(recording, Problem)
    assert recording.size_bytes == len("calls/monday/b#1 50%.ogg")
    assert recording.sha256 is not None
    lost = read_recording("s3://bucket/lost.wav", opened=bucket)
    assert isinstance(lost, Problem)
    assert lost.message == "no such object"


def test_a_store_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    objects.open_store.cache_clear()
    (problem,) = list(find("s3://silent/calls/"))
    objects.open_store.cache_clear()
    assert isinstance(problem, Problem)
    assert problem.message.startswith("cannot be listed: s3://silent/calls/")
    assert "\n" not in problem.message


def test_an_address_without_a_bucket_is_refused() -> None:
    with pytest.raises(ObjectStoreError, match="names no bucket"):
        objects.parse("gs:///key")
