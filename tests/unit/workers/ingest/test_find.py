"""Files, folders, globs and links: everything is found once, in order, under an id that does not depend on where."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from workers.ingest.find import Found, Problem, Skipped, default_id, find
from workers.ingest.gather import gather


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    (folder / "monday").mkdir(parents=True)
    for name in ("b.wav", "a.MP3", "monday/c.opus", "notes.txt", ".hidden.wav"):
        (folder / name).write_bytes(name.encode())
    return folder


def ids(items: Iterable[Found | Problem | Skipped]) -> list[str]:
    return [item.default_id for item in items if isinstance(item, Found)]


def problems(items: Iterable[Found | Problem | Skipped]) -> dict[str, str]:
    return {Path(item.where).name: item.message for item in items if isinstance(item, Problem)}


def test_a_folder_gives_its_recordings_in_order(recordings: Path) -> None:
    found = list(find(str(recordings)))
    assert ids(found) == ["a", "b", "monday/c"]
    assert sorted(Path(item.uri).name for item in found if isinstance(item, Skipped)) == [
        ".hidden.wav",
        "notes.txt",
    ]


def test_ids_do_not_depend_on_the_current_folder(
    recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recordings / "monday")
    found, expected = (
        [item for item in find(path) if isinstance(item, Found)] for path in ("..", str(recordings))
    )
    assert found == expected
    assert len(found) == 3


def test_a_file_that_is_named_may_have_any_name(recordings: Path) -> None:
    assert ids(find(str(recordings / "notes.txt"))) == ["notes.txt"]
    assert ids(find(str(recordings / "monday" / "c.opus"))) == ["c"]


def test_globs_keep_the_path_below_their_fixed_part(recordings: Path) -> None:
    assert ids(find(f"{recordings}/*/*.opus")) == ["monday/c"]
    assert ids(find(f"{recordings}/**/*.*")) == ["a", "b", "monday/c", "notes.txt"]
    assert ids(find(f"{recordings}/m*")) == ["monday/c"]
    assert problems(find(f"{recordings}/*.flac")) == {"*.flac": "nothing matches"}


def test_a_name_with_brackets_is_a_name_before_it_is_a_glob(recordings: Path) -> None:
    (recordings / "call[1].wav").write_bytes(b"x")
    assert ids(find(str(recordings / "call[1].wav"))) == ["call[1]"]


def test_links_that_form_a_loop_end(recordings: Path) -> None:
    (recordings / "monday" / "up").symlink_to(recordings)
    (recordings / "again").symlink_to(recordings / "monday")
    assert ids(find(str(recordings))) == ["a", "b", "again/c"]
    gathered = gather([str(recordings), f"{recordings}/**/*.wav", str(recordings / "b.wav")])
    assert [item.default_id for item in gathered.found] == ["a", "b", "again/c"]


def test_links_to_nowhere_are_told(recordings: Path) -> None:
    (recordings / "dangling.wav").symlink_to("nowhere")
    (recordings / "self.wav").symlink_to("self.wav")
    found = list(find(str(recordings)))
    assert ids(found) == ["a", "b", "monday/c"]
    assert problems(found) == dict.fromkeys(("dangling.wav", "self.wav"), "no such file or folder")


def test_a_pipe_is_not_waited_for(recordings: Path) -> None:
    os.mkfifo(recordings / "pipe.wav")
    found = list(find(str(recordings)))
    assert problems(found) == {"pipe.wav": "is neither a file nor a folder"}


def test_a_name_that_is_not_utf8_is_told(recordings: Path) -> None:
    Path(os.fsdecode(bytes(recordings / "monday") + b"/\xff.wav")).write_bytes(b"x")
    assert problems(find(str(recordings))) == {"\\xff.wav": "its name is not UTF-8; rename it"}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nope.wav", "no such file or folder"),
        ("ftp://host/a.wav", "ftp:// is not supported"),
        ("s3://", "names no bucket"),
        ("a\0b.wav", "NUL"),
    ],
)
def test_what_is_no_input_is_told(path: str, message: str) -> None:
    (problem,) = list(find(path))
    assert isinstance(problem, Problem)
    assert message in problem.message


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    assert problems(find(str(tmp_path))) == {tmp_path.name: "holds no files"}


@pytest.mark.parametrize(
    ("relative", "expected"),
    [
        ("CA1.wav", "CA1"),
        ("a/b.OGG", "a/b"),
        ("2026-11.22", "2026-11.22"),
        ("call.v2.wav", "call.v2"),
    ],
)
def test_only_a_recordings_extension_is_left_off(relative: str, expected: str) -> None:
    assert default_id(relative) == expected


def test_a_file_url_is_a_local_path(recordings: Path) -> None:
    assert list(find((recordings / "b.wav").as_uri())) == list(find(str(recordings / "b.wav")))


def test_a_manifest_alone_names_its_recordings(recordings: Path) -> None:
    manifest = recordings / "m.csv"
    manifest.write_text(
        f"path,agent_id\nmonday/c.opus,x\n{recordings}/b.wav,y\nmonday,z\nnope.wav,z\ns3://bucket/d.wav,w\n"
    )
    gathered = gather([], manifest)
    assert [(item.default_id, item.details.agent_id) for item in gathered.found] == [
        ("monday/c", "x"),
        ("b", "y"),
        ("d", "w"),
    ]
    told = [item.message for item in gathered.inputs if isinstance(item, Problem)]
    assert told == [
        "monday is a folder; a row names one recording",
        "nope.wav does not exist",
    ]


def test_with_paths_a_manifest_tells_more_of_what_is_found(recordings: Path) -> None:
    manifest = recordings.parent / "m.csv"
    manifest.write_text("path,agent_id\nrecordings/b.wav,y\nrecordings/notes.txt,z\n")
    gathered = gather([str(recordings)], manifest)
    assert [(item.default_id, item.details.agent_id) for item in gathered.found] == [
        ("a", None),
        ("b", "y"),
        ("monday/c", None),
    ]
    assert (gathered.num_skipped, gathered.num_unmatched_rows) == (2, 1)
