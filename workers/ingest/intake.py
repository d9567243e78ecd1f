"""Recording what was found: bytes are read once, a call is recorded once, and its first job goes in with it."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from db import queue
from db.enums import Verdict
from db.errors import ConstraintViolatedError, ValueUnstorableError
from db.repository import calls
from db.repository.calls import Ingested, MediaFacts, NewCall, NewRecording
from db.session import Database
from workers.ingest import objects
from workers.ingest.details import CallDetails
from workers.ingest.find import NOT_THERE, Found, Problem
from workers.ingest.objects import (
    ObjectForbiddenError,
    ObjectMissingError,
    ObjectStoreError,
    OpenStore,
)

# Hashing releases the GIL and object stores answer slowly: a few readers keep disk or network busy.
NUM_READERS = 4
_CHUNK_BYTES = 1024 * 1024

Outcome = Literal["created", "known", "recovered", "duplicate", "conflict", "rejected", "failed"]
# What a person has to look at; the command then ends with exit code 1.
BAD_OUTCOMES: frozenset[Outcome] = frozenset({"conflict", "rejected", "failed"})


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one input.

    created: a new call, which will be transcribed. known: the same call with the same bytes was there. recovered: the
    call was there but its recording was rejected, and this one takes its place. duplicate: the same bytes are there as
    another call. conflict: the call is there with another recording, which is kept. rejected: recorded with a verdict,
    as there is nothing to transcribe. failed: not recorded.
    """

    outcome: Outcome
    where: str
    call_id: int | None = None
    external_id: str | None = None
    message: str | None = None

    @property
    def is_bad(self) -> bool:
        """Whether this input was not taken as it should have been."""
        return self.outcome in BAD_OUTCOMES

    @property
    def wants_work(self) -> bool:
        """Whether a job was recorded for the call."""
        return self.outcome in ("created", "recovered")


def take_in(
    database: Database,
    inputs: Iterable[Found | Problem],
    *,
    source: str,
    defaults: CallDetails,
    opened: OpenStore = objects.open_store,
) -> Iterator[Taken]:
    """Record every input, in order; each call is committed with its job before it is told.

    What is wrong with one input is told as its outcome. Raises StoreError when the database itself gives up.
    """

    def read(item: Found | Problem) -> NewRecording | Problem:
        return item if isinstance(item, Problem) else read_recording(item.uri, opened=opened)

    for item, recording in _ahead(read, inputs):
        if isinstance(recording, Problem):
            yield Taken("failed", recording.where, message=recording.message)
        else:
            assert isinstance(item, Found)
            yield _record(database, item, recording, source, defaults)


def read_recording(uri: str, *, opened: OpenStore = objects.open_store) -> NewRecording | Problem:
    """Size and SHA-256 of a recording's bytes; whether they are a call is for the media guard to judge.

    A recording without bytes, or one that may not be read, comes with its verdict. One that is not there is a Problem.
    """
    digest, size = hashlib.sha256(), 0
    try:
        for chunk in _chunks(uri, opened):
            digest.update(chunk)
            size += len(chunk)
    except ObjectMissingError:
        return Problem(uri, "no such object")
    except ObjectForbiddenError as error:
        return _unread(uri, str(error))
    except (
        ObjectStoreError
    ) as error:  # the store is at fault, not the recording: nothing to hold against it
        return Problem(uri, str(error))
    except OSError as error:
        if error.errno in NOT_THERE:
            return Problem(uri, "no such file")
        return _unread(uri, f"cannot be read: {error.strerror}")
    if size == 0:
        return _without_bytes(uri, 0, "empty", "holds no bytes")
    return NewRecording(uri, digest.hexdigest(), size)


def _record(
    database: Database, found: Found, recording: NewRecording, source: str, defaults: CallDetails
) -> Taken:
    details = found.details.over(defaults)
    external_id = details.external_id or found.default_id
    call = NewCall(
        source=source,
        external_id=external_id,
        agent_id=details.agent_id,
        agent_version=details.agent_version,
        direction=details.direction or "unknown",
        started_at=details.started_at,
        campaign=details.campaign,
        caller_key=details.caller_key,
        end_reason=details.end_reason,
        metadata=details.metadata,
    )
    recording = replace(recording, agent_channel=details.agent_channel)
    try:
        with database.unit_of_work() as session:
            ingested = calls.ingest(session, call, recording)
            if ingested.wants_work and recording.facts.verdict is None:
                queue.enqueue(session, [ingested.call_id], "transcribe")
    except (ConstraintViolatedError, ValueUnstorableError) as error:
        return Taken("failed", found.uri, external_id=external_id, message=str(error))
    return _told(found.uri, external_id, ingested, recording.facts)


def _told(uri: str, external_id: str, ingested: Ingested, facts: MediaFacts) -> Taken:
    call_id = ingested.call_id
    if ingested.outcome == "conflict":
        message = f"call {call_id} has this external id and another recording, which is kept"
        return Taken("conflict", uri, call_id, external_id, message)
    if ingested.outcome == "same_bytes":
        return Taken("duplicate", uri, call_id, external_id, f"the same bytes as call {call_id}")
    if facts.verdict is not None:
        message = f"{facts.verdict}: {facts.verdict_detail}"
        return Taken("rejected", uri, call_id, external_id, message)
    return Taken(ingested.outcome, uri, call_id, external_id)


def _chunks(uri: str, opened: OpenStore) -> Iterator[bytes]:
    if objects.is_object_uri(uri):
        yield from objects.chunks(uri, opened=opened)
        return
    with Path(uri).open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _unread(uri: str, detail: str) -> NewRecording:
    return _without_bytes(uri, None, "unreadable", detail)


def _without_bytes(uri: str, size: int | None, verdict: Verdict, detail: str) -> NewRecording:
    facts = MediaFacts(verdict=verdict, verdict_detail=detail)
    return NewRecording(uri, None, size, facts=facts)


_In = TypeVar("_In")
_Out = TypeVar("_Out")


def _ahead(work: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[tuple[_In, _Out]]:
    """Each item with its result, in order, while the next few are worked on in threads."""
    with ThreadPoolExecutor(NUM_READERS) as pool:
        started: deque[tuple[_In, Future[_Out]]] = deque()
        for item in items:
            started.append((item, pool.submit(work, item)))
            if len(started) > 2 * NUM_READERS:
                first, future = started.popleft()
                yield first, future.result()
        while started:
            first, future = started.popleft()
            yield first, future.result()
