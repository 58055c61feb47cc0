"""Events of closed days by user, and long reports."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    text, moment = sa.Text(), sa.DateTime(timezone=True)
    op.create_table(
        "analytics_day_events",
        sa.Column("date", sa.Date, primary_key=True),
        sa.Column("event_type", text, primary_key=True),
        sa.Column(
            "bucket", sa.Integer, primary_key=True, comment="the users' numbers without 16 bits"
        ),
        sa.Column(
            "count", sa.Integer, nullable=False, comment="events, also of numbers and of times"
        ),
        sa.Column(
            "numbers", sa.LargeBinary, nullable=False, comment="of users, 4 bytes each, high first"
        ),
        sa.Column(
            "times",
            sa.LargeBinary,
            nullable=False,
            comment="microseconds from 2000 on, 8 bytes each, high first",
        ),
    )
    for column in ("numbers", "times"):
        # To compress them would take longer than to read them.
        op.execute(f"ALTER TABLE analytics_day_events ALTER COLUMN {column} SET STORAGE EXTERNAL")
    op.create_table(
        "analytics_reports",
        sa.Column("id", sa.Uuid, primary_key=True, comment="digest of the question"),
        sa.Column("question", text, nullable=False, comment="JSON"),
        sa.Column("state", text, nullable=False, comment="waiting, running, done or failed"),
        sa.Column("progress", sa.Double, nullable=False, comment="from 0 to 1"),
        sa.Column("result", text, comment="JSON"),
        sa.Column("reason", text, comment="why it failed"),
        sa.Column("as_of", moment, comment="the last archive run before it"),
        sa.Column("asked_by", text, nullable=False, comment="id of the read token, or empty"),
        sa.Column("tries", sa.Integer, nullable=False, comment="how many workers began to make it"),
        sa.Column("asked_at", moment, nullable=False),
        sa.Column("changed_at", moment, nullable=False),
    )
    op.create_index("ix_analytics_reports_asked_at", "analytics_reports", ["asked_at"])


def downgrade() -> None:
    op.drop_table("analytics_reports")
    op.drop_table("analytics_day_events")
