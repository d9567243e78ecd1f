"""Scorecards as rows: what is registered is what is read back, field order included."""

from __future__ import annotations

import pytest

from analytics.scorecards import BUILT_IN
from db.errors import ScorecardChangedError
from db.repository import scorecards

SCHEMA = {
    "type": "object",
    "properties": {"zeta": {"type": "boolean"}, "alpha": {"type": "boolean"}},
    "required": ["zeta", "alpha"],
}


def register(session, name, schema):
    return scorecards.register(
        session, name=name, version=1, instructions="Read.", output_schema=schema, kind="custom"
    )


def test_fields_keep_the_order_of_the_schema(database):
    with database.unit_of_work() as session:
        register(session, "ordered", SCHEMA)
    with database.unit_of_work() as session:
        stored = scorecards.get(session, "ordered", 1)
    assert list(stored.output_schema["properties"]) == ["zeta", "alpha"]


def test_the_built_in_records_are_decoded_in_the_order_of_their_models(database):
    with database.unit_of_work() as session:
        for card in BUILT_IN:
            stored = scorecards.register(
                session,
                name=f"copy_of_{card.name}",
                version=1,
                instructions=card.instructions,
                output_schema=card.schema,
                kind="builtin",
            )
            assert list(stored.output_schema["properties"]) == list(card.record.model_fields)


def test_another_order_is_another_scorecard(database):
    turned = {**SCHEMA, "properties": dict(reversed(SCHEMA["properties"].items()))}
    with database.unit_of_work() as session:
        register(session, "turned", SCHEMA)
    with pytest.raises(ScorecardChangedError), database.unit_of_work() as session:
        register(session, "turned", turned)
