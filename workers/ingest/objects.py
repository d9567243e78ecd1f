"""Recordings in object stores: `s3://`, `gs://` and `az://`, all through obstore.

Credentials, region and endpoint come from the environment variables that each provider's own tools read (`AWS_*`,
`GOOGLE_*`, `AZURE_*`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import cache
from pathlib import PurePosixPath
from typing import Any

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import from_url

SCHEMES = ("s3://", "gs://", "az://")
CHUNK_BYTES = 4 * 1024 * 1024
_WILDCARD = re.compile(r"[*?\[]")
# Enough for a hiccup. The library's own patience of three minutes is not what a person at a terminal has.
_RETRY: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}

OpenStore = Callable[[str], Any]


class ObjectStoreError(Exception):
    """An object store does not answer, does not let us in, or has no such thing; the message is one line."""


class ObjectMissingError(ObjectStoreError):
    """The object does not exist (any more)."""


class ObjectForbiddenError(ObjectStoreError):
    """The object exists, perhaps, but these credentials may not read it."""


@dataclass(frozen=True, slots=True)
class ObjectPath:
    """Where an object (or a prefix) is: `root` such as `s3://bucket`, and the key below it."""

    root: str
    key: str

    @property
    def uri(self) -> str:
        """The address in one piece, as it is stored."""
        return f"{self.root}/{self.key}"


def is_object_uri(path: str) -> bool:
    """Whether `path` is an address in an object store rather than a local path."""
    return path.startswith(SCHEMES)


def parse(uri: str) -> ObjectPath:
    """Split an address. Raises ObjectStoreError when it names no bucket."""
    scheme, _, rest = uri.partition("://")
    host, _, key = rest.partition("/")
    if not host:
        raise ObjectStoreError(f"{uri} names no bucket; expected {scheme}://bucket/path")
    return ObjectPath(f"{scheme}://{host}", key.lstrip("/"))


@cache
def open_store(root: str) -> Any:
    """The store of a bucket, opened once. Raises ObjectStoreError."""
    with _one_line(root):
        return from_url(root, retry_config=_RETRY)


def find(uri: str, *, opened: OpenStore = open_store) -> Iterator[tuple[ObjectPath, str]]:
    """Objects at `uri` (an object, a prefix, or a pattern with wildcards), each with its key relative to the prefix.

    Raises ObjectStoreError, also while listing.
    """
    place = parse(uri)
    store = opened(place.root)
    if _WILDCARD.search(place.key):
        yield from _find_matching(store, place)
        return
    if _is_object(store, place):
        yield place, PurePosixPath(place.key).name
        return
    prefix = place.key.rstrip("/")
    for key in _list(store, prefix, uri):
        yield ObjectPath(place.root, key), key.removeprefix(prefix).lstrip("/")


def chunks(uri: str, *, opened: OpenStore = open_store) -> Iterator[bytes]:
    """The bytes of an object, streamed. Raises ObjectMissingError, ObjectForbiddenError, ObjectStoreError."""
    place = parse(uri)
    with _one_line(uri):
        for chunk in obstore.get(opened(place.root), place.key).stream(CHUNK_BYTES):
            yield bytes(chunk)


def _find_matching(store: Any, place: ObjectPath) -> Iterator[tuple[ObjectPath, str]]:
    """Wildcards as in fnmatch: `*` also crosses slashes, since a bucket has no folders."""
    prefix = _WILDCARD.split(place.key, maxsplit=1)[0].rpartition("/")[0]
    for key in _list(store, prefix, place.uri):
        if fnmatchcase(key, place.key):
            yield ObjectPath(place.root, key), key.removeprefix(prefix).lstrip("/")


def _is_object(store: Any, place: ObjectPath) -> bool:
    if not place.key or place.key.endswith("/"):
        return False
    with _one_line(place.uri):
        try:
            obstore.head(store, place.key)
        except FileNotFoundError:
            return False
    return True


def _list(store: Any, prefix: str, uri: str) -> list[str]:
    with _one_line(uri):
        pages = obstore.list(store, prefix or None)
        return sorted(meta["path"] for page in pages for meta in page)


@contextlib.contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Turn the library's errors, which carry pages of debugging text, into ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissingError(f"{what} does not exist") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise ObjectForbiddenError(f"{what} may not be read: {_first_line(error)}") from error
    except BaseError as error:
        raise ObjectStoreError(f"{what}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].strip()
