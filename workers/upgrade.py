"""Bringing a database up to this version: its schema, then the scorecards that ship with it."""

from __future__ import annotations

from sqlalchemy.orm import Session

from analytics.scorecards import BUILT_IN
from db import migrate
from db.repository import scorecards
from db.session import Database


def bring_up_to_date(database: Database) -> None:
    """Migrate the schema and register the built-in scorecards; does nothing to a database that is current."""
    migrate.upgrade(database.engine)
    with database.unit_of_work() as session:
        register_built_in(session)


def register_built_in(session: Session) -> None:
    """Store this version's built-in scorecards, and promote each that is newer than what is promoted."""
    promoted = {card.name: card for card in scorecards.promoted(session)}
    for card in BUILT_IN:
        scorecards.register(
            session,
            name=card.name,
            version=card.version,
            instructions=card.instructions,
            output_schema=card.schema,
            kind="builtin",
        )
        current = promoted.get(card.name)
        if current is None or (current.kind == "builtin" and current.version < card.version):
            scorecards.promote(session, card.name, card.version)
