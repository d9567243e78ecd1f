"""`pipeline_stages.oldest_s` is never negative."""

from __future__ import annotations

from alembic import op

from db.sql import view

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _replace("pipeline_v2")


def downgrade() -> None:
    _replace("pipeline_v1")


def _replace(name: str) -> None:
    # In place, as the columns are the same: grants and a team's own views on it stay.
    script = view(name).replace("CREATE VIEW", "CREATE OR REPLACE VIEW")
    op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})
