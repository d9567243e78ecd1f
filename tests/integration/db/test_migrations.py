"""The migrations: up, down, up again, and to exactly the schema that the models describe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import get_args

import pytest
from pytest_alembic import create_alembic_fixture, tests
from pytest_alembic.config import Config
from sqlalchemy import Engine, text

from analytics import evidence, records
from analytics.lead_score import Tier
from analytics.transcript import Role
from db import enums, migrate
from db.errors import (
    DatabaseAheadError,
    DatabaseBehindError,
    DatabaseUnavailableError,
    QueryFailedError,
)
from db.models import Base
from db.session import Database
from tests.integration.conftest import MakeDatabase

test_single_head = tests.test_single_head_revision
test_up_and_down = tests.test_up_down_consistency
test_upgrade = tests.test_upgrade
test_models_match = tests.test_model_definitions_match_ddl

alembic_runner = create_alembic_fixture(Config(config_options={"script_location": "migrations"}))


@pytest.fixture
def empty(make_empty_database: MakeDatabase) -> Iterator[Database]:
    with make_empty_database() as url, Database(url) as database:
        yield database


@pytest.fixture
def alembic_engine(empty: Database) -> Engine:
    return empty.engine


CATALOG = {
    "columns": """
        SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity
        FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name IN (
            SELECT table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'
        ) AND table_name <> 'alembic_version'""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
        FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'""",
    "indexes": """
        SELECT tablename, indexname, indexdef FROM pg_indexes
        WHERE schemaname = 'public' AND tablename <> 'alembic_version'""",
}


def catalog(database: Database) -> dict[str, set[tuple[object, ...]]]:
    with database.engine.connect() as connection:
        return {
            name: {tuple(row) for row in connection.execute(text(query))}
            for name, query in CATALOG.items()
        }


def test_the_migrated_catalog_is_that_of_the_models(database: Database, empty: Database) -> None:
    """Also what Alembic does not compare: CHECK constraints and the predicates of partial indexes."""
    Base.metadata.create_all(empty.engine)
    migrated, modelled = catalog(database), catalog(empty)
    for kind in CATALOG:
        assert migrated[kind] == modelled[kind]


def test_a_deleted_row_finds_what_refers_to_it_by_an_index(database: Database) -> None:
    """The trigger of a foreign key cannot use a partial index."""
    with database.engine.connect() as connection:
        unindexed = connection.execute(
            text("""
                SELECT conrelid::regclass::text, conname FROM pg_constraint
                WHERE contype = 'f' AND confdeltype IN ('c', 'n') AND NOT EXISTS (
                    SELECT 1 FROM pg_index
                    WHERE indrelid = conrelid AND indkey[0] = conkey[1] AND indpred IS NULL
                )""")
        ).all()
    assert unindexed == []


def test_nothing_is_left_after_going_down(empty: Database) -> None:
    migrate.upgrade(empty.engine)
    migrate.downgrade(empty.engine, "base")
    with empty.engine.connect() as connection:
        left = connection.scalars(
            text(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
                " UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
            )
        ).all()
    assert set(left) <= {"alembic_version", "alembic_version_pkc"}


def test_a_schema_that_is_behind_says_how_far_and_what_to_do(empty: Database) -> None:
    with pytest.raises(DatabaseBehindError) as caught:
        empty.check_schema_current()
    assert caught.value.missing > 1
    migrate.upgrade(empty.engine)
    empty.check_schema_current()
    migrate.downgrade(empty.engine, "-1")
    with pytest.raises(DatabaseBehindError) as caught:
        empty.check_schema_current()
    assert str(caught.value) == "database is 1 migration behind, run `aftercall db upgrade`"


def test_a_schema_of_a_later_version_is_told_apart(empty: Database) -> None:
    migrate.upgrade(empty.engine)
    with empty.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseAheadError, match="9999"):
        empty.check_schema_current()


def upgrade(url: str) -> None:
    with Database(url) as database:
        migrate.upgrade(database.engine)


def test_upgrades_at_once_wait_for_each_other(empty: Database) -> None:
    url = empty.url.render_as_string(hide_password=False)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        list(processes.map(upgrade, [url] * 2))
    empty.check_schema_current()


def test_a_migration_does_not_wait_long_for_a_lock(empty: Database) -> None:
    migrate.upgrade(empty.engine)
    with empty.engine.connect() as reader:
        reader.execute(text("SELECT * FROM calls"))
        with pytest.raises(QueryFailedError, match="lock timeout"):
            migrate.downgrade(empty.engine, "base")
        assert migrate.current_revision(reader) == "0001"


def test_a_database_that_is_down_is_a_typed_error() -> None:
    with Database("postgresql://nobody@127.0.0.1:1/none") as database:
        with pytest.raises(DatabaseUnavailableError, match="does not answer"):
            database.check_schema_current()
        with pytest.raises(DatabaseUnavailableError), database.unit_of_work() as session:
            session.execute(text("SELECT 1"))


@pytest.mark.parametrize(
    ("constraint", "vocabulary"),
    [
        ("ck_calls_direction_known", enums.Direction),
        ("ck_recordings_verdict_known", enums.Verdict),
        ("ck_turns_role_known", Role),
        ("ck_jobs_stage_known", enums.Stage),
        ("ck_jobs_state_known", enums.JobState),
        ("ck_scorecards_kind_known", enums.ScorecardKind),
        ("ck_scorecards_status_known", enums.ScorecardStatus),
        ("ck_analysis_runs_status_known", enums.RunStatus),
        ("ck_field_evidence_status_known", enums.EvidenceStatus),
        ("ck_summary_records_outcome_known", records.Outcome),
        ("ck_sentiment_records_overall_known", records.Mood),
        ("ck_sentiment_records_end_mood_known", records.Mood),
        ("ck_lead_records_intent_known", records.Intent),
        ("ck_lead_records_urgency_known", records.Urgency),
        ("ck_lead_records_budget_fit_known", records.BudgetFit),
        ("ck_lead_records_authority_known", records.Authority),
        ("ck_lead_records_timeline_known", records.Timeline),
        ("ck_lead_records_commitment_known", records.Commitment),
        ("ck_lead_records_objection_known", records.Objection),
        ("ck_lead_records_tier_known", Tier),
    ],
)
def test_the_migrated_schema_knows_each_vocabulary(
    database: Database, constraint: str, vocabulary: object
) -> None:
    with database.engine.connect() as connection:
        definition = connection.scalar(
            text("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = :name"),
            {"name": constraint},
        )
    assert set(re.findall(r"'([^']+)'", definition)) == set(get_args(vocabulary))


def test_evidence_statuses_contain_those_of_analytics() -> None:
    assert set(get_args(evidence.EvidenceStatus)) < set(get_args(enums.EvidenceStatus))
