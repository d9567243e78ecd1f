"""Finding recordings: files, folders, globs and object stores, each with the external id that it gets by default.

The default external id is the recording's path below the place that was named, without the extension: `ingest calls/`
calls `calls/monday/17.wav` by the id `monday/17`, wherever the command is run; a file that is named itself gets its
bare name.
"""

from __future__ import annotations

import errno
import glob
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from workers.ingest import objects
from workers.ingest.details import CallDetails
from workers.ingest.objects import ObjectMissingError, ObjectStoreError, OpenStore

# In a folder only these are taken; whoever names a file itself may name any.
RECORDING_SUFFIXES = frozenset(
    {
        *(".wav", ".wave", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".aac"),
        *(".gsm", ".au", ".snd", ".aiff", ".aif", ".amr", ".wma", ".webm", ".mka", ".caf", ".3gp"),
    }
)
# A name that leads nowhere: removed meanwhile, a broken link, a link to itself.
NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
NOTHING_TOLD = CallDetails()


@dataclass(frozen=True, slots=True)
class Found:
    """One recording to take in. `uri` is an absolute path or an object's address; `details` come from a manifest."""

    uri: str
    default_id: str
    details: CallDetails = NOTHING_TOLD


@dataclass(frozen=True, slots=True)
class Problem:
    """An input that is not a recording; nothing is stored for it."""

    where: str
    message: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file in a folder that does not look like a recording."""

    uri: str


def find(
    path: str, *, opened: OpenStore = objects.open_store
) -> Iterator[Found | Problem | Skipped]:
    """Everything at `path`. Never raises for what is at fault with one input: that is a Problem among the rest."""
    if path.startswith("file://"):
        path = unquote(urlsplit(path).path)
    if objects.is_object_uri(path):
        yield from _find_objects(path, opened)
    elif "://" in path:
        scheme = path.partition("://")[0]
        yield Problem(path, f"{scheme}:// is not supported; use a path, s3://, gs:// or az://")
    elif "\0" in path:
        yield Problem(path.replace("\0", "\\0"), "a path cannot hold a NUL character")
    elif os.path.lexists(path) or not glob.has_magic(path):
        yield from _find_local(Path(path))
    else:
        yield from _find_glob(path)


def default_id(relative: str) -> str:
    """The external id of a recording at `relative`: the same path with slashes, without a recording's extension."""
    path = PurePosixPath(relative.replace(os.sep, "/"))
    return str(path.with_suffix("") if path.suffix.lower() in RECORDING_SUFFIXES else path)


def _find_objects(path: str, opened: OpenStore) -> Iterator[Found | Problem | Skipped]:
    num_found = 0
    try:
        for place, relative in objects.find(path, opened=opened):
            num_found += 1
            if _is_recording_name(relative) or place.uri == path:
                yield Found(place.uri, default_id(relative))
            else:
                yield Skipped(place.uri)
    except ObjectMissingError as error:
        yield Problem(path, str(error))
        return
    except ObjectStoreError as error:
        yield Problem(path, f"cannot be listed: {error}")
        return
    if not num_found:
        yield Problem(path, "nothing is there")


def _find_local(path: Path, *, below: Path | None = None) -> Iterator[Found | Problem | Skipped]:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        yield Problem(str(path), _why(error))
        return
    if stat.S_ISDIR(mode):
        yield from _walk(path)
    elif stat.S_ISREG(mode):
        yield _found(path, path.name if below is None else os.path.relpath(path, below))
    else:
        yield Problem(str(path), "is neither a file nor a folder")


def _find_glob(pattern: str) -> Iterator[Found | Problem | Skipped]:
    root, rest = _split_glob(pattern)
    is_recursive = "**" in rest.parts
    matches = (
        _match_recursively(root, rest) if is_recursive else sorted(map(Path, glob.glob(pattern)))
    )
    if not matches:
        yield Problem(pattern, "nothing matches")
    for match in matches:
        if not match.is_dir():
            yield from _find_local(match, below=root)
        elif (
            not is_recursive
        ):  # `**` also names every folder below, whose files are matches of their own
            yield from _walk(match, below=root)


def _split_glob(pattern: str) -> tuple[Path, PurePosixPath]:
    """The part before the first wildcard, and the rest."""
    parts = Path(pattern).parts
    first = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first]), PurePosixPath(*parts[first:])


def _match_recursively(root: Path, rest: PurePosixPath) -> list[Path]:
    """Unlike glob.glob, Path.glob does not follow links through `**`: two links that form loops would never end."""
    parts = [part if part == "**" else re.sub(r"\*\*+", "*", part) for part in rest.parts]
    if parts[-1] == "**":
        parts.append("*")
    matches = root.glob("/".join(parts))
    return sorted(filter(_is_visible, matches))


def _walk(folder: Path, *, below: Path | None = None) -> Iterator[Found | Problem | Skipped]:
    """Every recording under `folder`, in order of name. Each real folder is entered once, so links may form a loop."""
    root = folder if below is None else below
    entered: set[tuple[int, int]] = set()
    waiting = [folder]
    num_found = 0
    while waiting:
        current = waiting.pop()
        try:
            identity = (current.stat().st_dev, current.stat().st_ino)
            if identity in entered:
                continue
            entered.add(identity)
            entries = sorted(current.iterdir())
        except OSError as error:
            yield Problem(str(current), _why(error))
            continue
        folders = {entry for entry in entries if os.path.isdir(entry)}
        waiting += [entry for entry in sorted(folders, reverse=True) if _is_visible(entry)]
        for entry in entries:
            if entry in folders:
                continue
            num_found += 1
            if _is_visible(entry) and _is_recording_name(entry.name):
                yield from _find_local(entry, below=root)
            else:
                yield Skipped(str(entry))
    if not num_found:
        yield Problem(str(folder), "holds no files")


def _found(path: Path, relative: str) -> Found | Problem:
    # the folder's real place outlives links and `..`; the file keeps the name it was found by
    uri = os.path.join(os.path.realpath(path.parent), path.name)
    try:
        uri.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(uri).decode("utf-8", "backslashreplace")
        return Problem(shown, "its name is not UTF-8; rename it")
    return Found(uri, default_id(relative))


def _is_visible(path: Path) -> bool:
    return not path.name.startswith(".")


def _is_recording_name(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in RECORDING_SUFFIXES


def _why(error: OSError) -> str:
    if error.errno in NOT_THERE:
        return "no such file or folder"
    return f"cannot be read: {error.strerror}"
