"""What can go wrong with the database, as types. The docstring of a class is its message unless one is given."""

from __future__ import annotations

from collections.abc import Callable

import psycopg


class StoreError(Exception):
    """Base of every error of this package."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or type(self).__name__).strip())


class DatabaseUnavailableError(StoreError):
    """The database does not answer; check that it runs and that the address and password are right."""


class DatabaseBehindError(StoreError):
    """The schema is older than this version of Aftercall."""

    def __init__(self, missing: int) -> None:
        self.missing = missing
        plural = "migration" if missing == 1 else "migrations"
        super().__init__(f"database is {missing} {plural} behind, run `aftercall db upgrade`")


class DatabaseAheadError(StoreError):
    """The schema is newer than this version of Aftercall."""

    def __init__(self, revision: str) -> None:
        self.revision = revision
        super().__init__(
            f"database is at revision {revision}, which this version does not know; upgrade Aftercall"
        )


class DatabaseTooOldError(StoreError):
    """Aftercall needs Postgres 14 or newer."""


class QueryFailedError(StoreError):
    """The database refused a query."""


class TransactionConflictError(StoreError):
    """Another transaction was in the way, as in a deadlock; the unit of work may be tried again."""


class LeaseLostError(StoreError):
    """The lease on a job was lost: its result must be discarded."""

    def __init__(self, job_id: int) -> None:
        self.job_id = job_id
        super().__init__(f"the lease on job {job_id} was lost; its result is discarded")


class NotFoundError(StoreError):
    """No such row."""


class CallNotFoundError(NotFoundError):
    """There is no such call."""

    def __init__(self, reference: int | str) -> None:
        self.reference = reference
        super().__init__(f"there is no call {reference!r}")


class ScorecardNotFoundError(NotFoundError):
    """There is no such scorecard."""

    def __init__(self, name: str, version: int | None = None) -> None:
        self.name, self.version = name, version
        at_version = "" if version is None else f" version {version}"
        super().__init__(f"there is no scorecard {name!r}{at_version}")


class ScorecardChangedError(StoreError):
    """A stored version of a scorecard has other instructions or another schema."""

    def __init__(self, name: str, version: int) -> None:
        self.name, self.version = name, version
        super().__init__(
            f"scorecard {name!r} version {version} is stored with other instructions or another schema; "
            "give the changed one a new version"
        )


class ConstraintViolatedError(StoreError):
    """A rule of the schema was broken; `constraint` names it."""

    def __init__(self, constraint: str, message: str | None = None) -> None:
        self.constraint = constraint
        super().__init__(message or f"the database's rule {constraint} was broken")


class DuplicateCallError(ConstraintViolatedError):
    """A call with this source and external id exists."""


class DuplicateRecordingError(ConstraintViolatedError):
    """These bytes, or a recording of this call, exist."""


class LiveJobExistsError(ConstraintViolatedError):
    """This stage of the call is already waiting or running."""


class DuplicateScorecardError(ConstraintViolatedError):
    """A scorecard with this name and version exists."""


class AlreadyPromotedError(ConstraintViolatedError):
    """Another version of this scorecard is promoted."""


class RunRepeatedError(ConstraintViolatedError):
    """This job has already stored this scorecard's result for this transcript."""


class RowFrozenError(ConstraintViolatedError):
    """Analysis runs, their records and transcripts are append-only."""


class ValueNotAllowedError(ConstraintViolatedError):
    """A value is outside of what its column allows."""


class MissingReferenceError(ConstraintViolatedError):
    """A row refers to one that does not exist."""


class ValueUnstorableError(StoreError):
    """A value cannot be stored in Postgres, such as text with a NUL character."""


_BY_CONSTRAINT: dict[str, type[ConstraintViolatedError]] = {
    "uq_calls_source_external_id": DuplicateCallError,
    "uq_recordings_call_id": DuplicateRecordingError,
    "uq_recordings_sha256": DuplicateRecordingError,
    "uq_jobs_one_live": LiveJobExistsError,
    "uq_scorecards_name_version": DuplicateScorecardError,
    "uq_scorecards_one_promoted": AlreadyPromotedError,
    "uq_analysis_runs_once_per_job": RunRepeatedError,
    "append_only": RowFrozenError,
}


def translate(error: BaseException) -> StoreError | None:
    """The domain error for a psycopg error, or None when it is not one that a caller could act on."""
    for kind, build in _TRANSLATIONS:
        if isinstance(error, kind):
            return build(error)
    return None


def _constraint(error: psycopg.Error) -> StoreError:
    name = error.diag.constraint_name or error.diag.column_name or "unnamed"
    detail = error.diag.message_detail or error.diag.message_primary or ""
    if name in _BY_CONSTRAINT:
        kind = _BY_CONSTRAINT[name]
    elif isinstance(error, psycopg.errors.ForeignKeyViolation):
        kind = MissingReferenceError
    elif isinstance(error, (psycopg.errors.CheckViolation, psycopg.errors.NotNullViolation)):
        kind = ValueNotAllowedError
    else:
        kind = ConstraintViolatedError
    return kind(name, f"{(kind.__doc__ or '').strip()} ({name}: {detail})")


def _operational(error: psycopg.Error) -> StoreError:
    reason = " ".join(str(error).split())
    if error.sqlstate is None or error.sqlstate[:2] in _NO_SERVICE:
        return DatabaseUnavailableError(f"the database does not answer: {reason}")
    if error.sqlstate[:2] == "40":
        return TransactionConflictError(f"another transaction was in the way; try again: {reason}")
    return QueryFailedError(f"query failed: {reason}")


def _unstorable(error: psycopg.Error) -> StoreError:
    return ValueUnstorableError(f"a value cannot be stored: {error.diag.message_primary or error}")


# Classes of SQLSTATE that mean that no query at all would be answered: connection exceptions, refused log-ins, missing
# databases, insufficient resources, operator intervention.
_NO_SERVICE = frozenset({"08", "28", "3D", "53", "57"})


def _refused(error: psycopg.Error) -> StoreError:
    return QueryFailedError(f"query refused: {' '.join(str(error).split())}")


# In order: a cancelled query is an OperationalError too.
_TRANSLATIONS: tuple[tuple[type[psycopg.Error], Callable[[psycopg.Error], StoreError]], ...] = (
    (psycopg.IntegrityError, _constraint),
    (psycopg.errors.QueryCanceled, _refused),
    (psycopg.errors.LockNotAvailable, _refused),
    (psycopg.OperationalError, _operational),
    (psycopg.DataError, _unstorable),
    (psycopg.errors.InvalidCatalogName, _operational),
    (psycopg.ProgrammingError, _refused),
    (psycopg.InternalError, _refused),
)
