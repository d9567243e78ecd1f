"""Scorecards: registering a version, promoting it, reading those in force."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.enums import ScorecardKind, ScorecardStatus
from db.errors import ScorecardChangedError, ScorecardNotFoundError
from db.models import Scorecard


@dataclass(frozen=True, slots=True)
class StoredScorecard:
    """One version of a scorecard. `sha256` is over instructions and schema."""

    id: int
    name: str
    version: int
    kind: ScorecardKind
    status: ScorecardStatus
    instructions: str
    output_schema: dict[str, Any]
    sha256: str


def register(
    session: Session,
    *,
    name: str,
    version: int,
    instructions: str,
    output_schema: Mapping[str, Any],
    kind: ScorecardKind,
) -> StoredScorecard:
    """Store a version of a scorecard as a draft; the same one again changes nothing. Raises ScorecardChangedError."""
    content = json.dumps([instructions, output_schema], separators=(",", ":"))
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    session.execute(
        insert(Scorecard)
        .values(
            name=name,
            version=version,
            kind=kind,
            instructions=instructions,
            output_schema=dict(output_schema),
            sha256=sha256,
        )
        .on_conflict_do_nothing(constraint="uq_scorecards_name_version")
    )
    stored = get(session, name, version)
    if stored.sha256 != sha256:
        raise ScorecardChangedError(name, version)
    return stored


def promote(session: Session, name: str, version: int) -> StoredScorecard:
    """Make a version the one that counts; the one before it is retired. Raises ScorecardNotFoundError."""
    get(session, name, version)
    of_name = Scorecard.name == name
    session.execute(
        update(Scorecard)
        .where(of_name, Scorecard.status == "promoted", Scorecard.version != version)
        .values(status="retired")
    )
    session.execute(
        update(Scorecard).where(of_name, Scorecard.version == version).values(status="promoted")
    )
    return get(session, name, version)


def get(session: Session, name: str, version: int | None = None) -> StoredScorecard:
    """A version of a scorecard, or its promoted one. Raises ScorecardNotFoundError."""
    query = select(Scorecard).where(Scorecard.name == name)
    wanted = Scorecard.status == "promoted" if version is None else Scorecard.version == version
    row = session.scalar(query.where(wanted).execution_options(populate_existing=True))
    if row is None:
        raise ScorecardNotFoundError(name, version)
    return _stored(row)


def promoted(session: Session, names: Collection[str] | None = None) -> tuple[StoredScorecard, ...]:
    """The promoted scorecards by name, all or those named. Raises ScorecardNotFoundError for a name without one."""
    rows = session.scalars(
        select(Scorecard).where(Scorecard.status == "promoted").order_by(Scorecard.name)
    )
    found = {row.name: _stored(row) for row in rows}
    for name in names or ():
        if name not in found:
            raise ScorecardNotFoundError(name)
    return tuple(card for name, card in found.items() if names is None or name in names)


def all_versions(session: Session) -> tuple[StoredScorecard, ...]:
    """Every version of every scorecard, by name and version."""
    rows = session.scalars(select(Scorecard).order_by(Scorecard.name, Scorecard.version))
    return tuple(_stored(row) for row in rows)


def _stored(row: Scorecard) -> StoredScorecard:
    return StoredScorecard(
        row.id,
        row.name,
        row.version,
        row.kind,
        row.status,
        row.instructions,
        row.output_schema,
        row.sha256,
    )
