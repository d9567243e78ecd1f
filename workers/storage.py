"""Where recordings lie: a local path, or an object in a store, fetched for as long as it is read."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.exceptions import NotFoundError as ObjectNotFoundError
from obstore.store import from_url

from inference.speech import UnusableRecordingError

OBJECT_SCHEMES = ("s3", "gs", "az")


class StorageError(Exception):
    """An object store does not answer or refuses; the message names the object."""


def is_object(uri: str) -> bool:
    """Whether `uri` names an object in a store rather than a local path."""
    return urlsplit(uri).scheme in OBJECT_SCHEMES


@contextlib.contextmanager
def local_copy(uri: str) -> Iterator[Path]:
    """A local path with the recording's bytes, valid inside the block.

    Raises UnusableRecordingError with verdict missing for an object that is gone, StorageError when the store fails,
    which is worth another try. A local path is yielded as it is, whether it exists or not.
    """
    if not is_object(uri):
        yield Path(uri)
        return
    with tempfile.TemporaryDirectory(prefix="aftercall-") as directory:
        path = Path(directory) / Path(urlsplit(uri).path).name
        try:
            with path.open("wb") as file:
                for chunk in obstore.get(_bucket(uri), urlsplit(uri).path.lstrip("/")).stream():
                    file.write(chunk)
        except (ObjectNotFoundError, FileNotFoundError) as error:
            raise UnusableRecordingError("missing", f"{uri} does not exist any more") from error
        except BaseError as error:
            raise StorageError(f"cannot fetch {uri}: {error}") from error
        yield path


def _bucket(uri: str):  # type: ignore[no-untyped-def]  # obstore's store types are a union per provider
    parts = urlsplit(uri)
    return from_url(f"{parts.scheme}://{parts.netloc}")
