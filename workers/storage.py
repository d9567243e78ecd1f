"""Where recordings lie: a local path, or an object in a store, fetched for as long as it is read."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from inference.speech import UnusableRecordingError
from workers.ingest import objects
from workers.ingest.objects import ObjectMissingError, OpenStore


@contextlib.contextmanager
def local_copy(uri: str, *, opened: OpenStore = objects.open_store) -> Iterator[Path]:
    """A local path with the recording's bytes, valid inside the block.

    Raises UnusableRecordingError with verdict missing for an object that is gone, ObjectStoreError when the store fails
    or refuses, which is worth another try. A local path is yielded as it is, whether it exists or not. What the block
    finds wrong with the copy is told of the object.
    """
    if not objects.is_object_uri(uri):
        yield Path(uri)
        return
    with tempfile.TemporaryDirectory(prefix="aftercall-") as directory:
        path = Path(directory) / f"recording{PurePosixPath(uri).suffix}"
        try:
            with path.open("wb") as file:
                for chunk in objects.chunks(uri, opened=opened):
                    file.write(chunk)
        except ObjectMissingError as error:
            raise UnusableRecordingError("missing", f"{uri} does not exist any more") from error
        try:
            yield path
        except UnusableRecordingError as error:
            message = str(error).replace(str(path), uri)
            raise UnusableRecordingError(error.verdict, message) from error
