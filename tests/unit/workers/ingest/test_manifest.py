"""A manifest tells what is wrong with it by line, and the other rows count."""

from pathlib import Path

import pytest

from workers.ingest.manifest import ManifestError, ManifestProblem, ManifestRow, read_manifest


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "manifest.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines_of(rows: list[ManifestRow | ManifestProblem]) -> tuple[dict[int, str], dict[int, str]]:
    """Paths and messages by line."""
    return (
        {row.line: row.path for row in rows if isinstance(row, ManifestRow)},
        {row.line: row.message for row in rows if isinstance(row, ManifestProblem)},
    )


def test_rows_carry_details(tmp_path: Path) -> None:
    path = write(tmp_path, 'path,agent_id,metadata\na.wav,salon,"{""x"": 1}"\n\nb.wav,,\n')
    first, second = list(read_manifest(path))
    assert isinstance(first, ManifestRow)
    assert isinstance(second, ManifestRow)
    assert (first.line, first.path, first.details.agent_id) == (2, "a.wav", "salon")
    assert first.details.metadata == {"x": 1}
    assert (second.line, second.details.agent_id) == (4, None)


@pytest.mark.parametrize("content", ["\ufeffpath\r\na.wav\r\n", "Path \na.wav", "path\ra.wav\r"])
def test_spreadsheets_spellings_are_read(tmp_path: Path, content: str) -> None:
    (row,) = list(read_manifest(write(tmp_path, content)))
    assert isinstance(row, ManifestRow)
    assert (row.line, row.path) == (2, "a.wav")


def test_each_malformed_row_is_told_by_line_and_the_rest_counts(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        b"path,external_id,direction,metadata\n"
        b"a.wav,1,inbound,{}\n"
        b"b.wav,2,sideways,{}\n"
        b"c.wav,3,inbound\n"
        b",4,inbound,{}\n"
        b"e.wav,5,inbound,{bad\n"
        b"\xff\xfe.wav,6,inbound,\n"
        b"g\x00.wav,7,inbound,\n"
        b"h.wav,8,outbound,\n",
    )
    paths, messages = lines_of(list(read_manifest(path)))
    assert paths == {2: "a.wav", 9: "h.wav"}
    assert list(messages) == [3, 4, 5, 6, 7, 8]
    assert "direction" in messages[3]
    assert messages[4] == "has 3 fields, the header has 4"
    assert messages[5] == "names no path"
    assert "metadata: not JSON" in messages[6]
    assert messages[7] == messages[8] == "holds bytes that are not UTF-8 text"


def test_an_unknown_column_is_told_and_left_out(tmp_path: Path) -> None:
    rows = list(read_manifest(write(tmp_path, "path,agnt\na.wav,x\n")))
    paths, messages = lines_of(rows)
    assert paths == {2: "a.wav"}
    assert "'agnt' is not known" in messages[1]


@pytest.mark.parametrize(
    "stray",
    ['"b.wav,2', 'b.wav,"2', '"b.wav"x,2'],
    ids=["opens a field", "opens the last field", "closes too early"],
)
def test_a_stray_quote_spoils_its_own_line_only(tmp_path: Path, stray: str) -> None:
    path = write(tmp_path, f"path,external_id\na.wav,1\n{stray}\nc.wav,3\nd.wav,4\n")
    paths, messages = lines_of(list(read_manifest(path)))
    assert paths == {2: "a.wav", 4: "c.wav", 5: "d.wav"}
    assert list(messages) == [3]


def test_two_stray_quotes_do_not_swallow_the_rows_between(tmp_path: Path) -> None:
    path = write(tmp_path, 'path,external_id\n"a.wav,1\nb.wav,2\n"c.wav,3\nd.wav,4\n')
    paths, messages = lines_of(list(read_manifest(path)))
    assert paths == {3: "b.wav", 5: "d.wav"}
    assert list(messages) == [2, 4]


def test_a_quoted_field_may_span_lines(tmp_path: Path) -> None:
    path = write(tmp_path, 'path,metadata\na.wav,"{\n""x"": 1}"\nb.wav,\n')
    rows = list(read_manifest(path))
    assert [row.line for row in rows] == [2, 4]
    assert isinstance(rows[0], ManifestRow)
    assert rows[0].details.metadata == {"x": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no header"),
        ("external_id;path\n", "no column 'path'"),
        ("path,path\n", "more than once"),
    ],
)
def test_a_manifest_without_a_usable_header_is_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    with pytest.raises(ManifestError, match=message):
        list(read_manifest(write(tmp_path, content)))


def test_a_manifest_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="No such file"):
        list(read_manifest(tmp_path / "nope.csv"))
