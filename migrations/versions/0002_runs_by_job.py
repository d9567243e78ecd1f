"""An index for the foreign key from runs to jobs: without it a deleted job reads every run there is."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_analysis_runs_job_id", "analysis_runs", ["job_id"])


def downgrade() -> None:
    op.drop_index("ix_analysis_runs_job_id", "analysis_runs")
