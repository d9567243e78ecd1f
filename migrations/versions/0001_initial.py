"""The first schema: tables, append-only triggers, views."""

from __future__ import annotations

from pathlib import Path

from alembic import op

from db.sql import view

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SQL = Path(__file__).resolve().parent.parent / "sql"
# Each may use those before it.
VIEWS = ("current_runs_v1", "call_status_v1", "call_scores_v1", "agent_daily_v1", "pipeline_v1")
VIEW_NAMES = (
    "current_runs",
    "call_status",
    "call_scores",
    "agent_daily",
    "pipeline_stages",
    "pipeline_failures",
)
TABLES = (
    "calls",
    "recordings",
    "transcripts",
    "turns",
    "call_metrics",
    "scorecards",
    "jobs",
    "analysis_runs",
    "summary_records",
    "sentiment_records",
    "lead_records",
    "field_evidence",
)


def upgrade() -> None:
    _execute((SQL / "0001_tables.sql").read_text("utf-8"))
    _execute((SQL / "0001_append_only.sql").read_text("utf-8"))
    for name in VIEWS:
        _execute(view(name))


def downgrade() -> None:
    for name in reversed(VIEW_NAMES):
        _execute(f"DROP VIEW {name}")
    for name in reversed(TABLES):
        _execute(f"DROP TABLE {name}")
    _execute("DROP FUNCTION refuse_update()")


def _execute(script: str) -> None:
    # Without parameters psycopg sends the text as it is, so that one call may hold several statements.
    op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})
