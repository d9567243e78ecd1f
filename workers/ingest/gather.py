"""Everything one `ingest` was given, as one list: what was found at the paths, told more of by the manifest."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from workers.ingest import objects
from workers.ingest.find import Found, Problem, Skipped, default_id, find
from workers.ingest.manifest import ManifestProblem, read_manifest
from workers.ingest.objects import OpenStore


@dataclass(frozen=True, slots=True)
class Gathered:
    """The inputs in order; how many files of folders are no recordings; how many manifest rows met no recording."""

    inputs: tuple[Found | Problem, ...]
    num_skipped: int
    num_unmatched_rows: int

    @property
    def found(self) -> list[Found]:
        """The recordings among the inputs."""
        return [item for item in self.inputs if isinstance(item, Found)]


def gather(
    paths: Sequence[str], manifest: Path | None = None, *, opened: OpenStore = objects.open_store
) -> Gathered:
    """List the recordings at `paths`, or those of the manifest when there are no paths. Raises ManifestError."""
    rows = [] if manifest is None else list(_rows(manifest))
    if manifest is not None and not paths:
        return Gathered(tuple(rows), 0, 0)
    inputs: list[Found | Problem] = [row for row in rows if isinstance(row, Problem)]
    told = {row.uri: row.details for row in rows if isinstance(row, Found)}
    met: set[str] = set()
    num_skipped = 0
    for path in paths:
        for item in find(path, opened=opened):
            if isinstance(item, Skipped):
                num_skipped += 1
                continue
            named = item.uri if isinstance(item, Found) else item.where
            if named in met:  # two paths may name one file, as links and globs do
                continue
            met.add(named)
            if isinstance(item, Found) and named in told:
                item = replace(item, details=told[named])
            inputs.append(item)
    return Gathered(tuple(inputs), num_skipped, len(told.keys() - met))


def _rows(manifest: Path) -> Iterator[Found | Problem]:
    for row in read_manifest(manifest):
        where = f"{manifest} line {row.line}"
        if isinstance(row, ManifestProblem):
            yield Problem(where, row.message)
            continue
        found = _recording_of(row.path, manifest.parent)
        if isinstance(found, Problem):
            yield Problem(where, f"{row.path} {found.message}")
        else:
            yield replace(found, details=row.details)


def _recording_of(path: str, folder: Path) -> Found | Problem:
    """The one recording that a row names; whether an object exists is seen when it is read."""
    if objects.is_object_uri(path):
        return Found(path, default_id(PurePosixPath(path).name))
    place = folder / path
    if place.is_dir():
        return Problem(path, "is a folder; a row names one recording")
    if not os.path.lexists(place):
        return Problem(path, "does not exist")
    found = next(find(str(place)))
    assert not isinstance(found, Skipped)
    if isinstance(found, Problem) or os.path.isabs(path) or ".." in Path(path).parts:
        return found
    return replace(found, default_id=default_id(os.path.normpath(path)))
