"""Event types and properties of events, as the archive has seen them.

Of a type that was counted before, what was archived until now is left out: `since` says so.
"""

import sqlalchemy as sa
from alembic import op

from pipeline.postgres.tables import FILL_FACTOR

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TABLES = ("analytics_event_types", "analytics_event_properties")


def upgrade() -> None:
    text, moment = sa.Text(), sa.DateTime(timezone=True)
    op.create_table(
        "analytics_event_types",
        sa.Column("event_type", text, primary_key=True),
        sa.Column(
            "events", sa.BigInteger, nullable=False, comment="archived, also those pruned by now"
        ),
        sa.Column("last", moment, nullable=False, comment="the newest event's time"),
        sa.Column("since", moment, comment="earlier ones are left out; NULL: none is"),
    )
    op.create_table(
        "analytics_event_properties",
        sa.Column("event_type", text, primary_key=True),
        sa.Column("property", text, primary_key=True),
        sa.Column("events", sa.BigInteger, nullable=False, comment="archived ones that had it"),
        sa.Column("last", moment, nullable=False, comment="the newest event's time"),
    )
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} SET (fillfactor = {FILL_FACTOR})")
    op.execute(
        "INSERT INTO analytics_event_types (event_type, events, last, since) "
        "SELECT event_type, 0, CAST(max(date) AS TIMESTAMP) AT TIME ZONE 'UTC', now() "
        "FROM analytics_daily GROUP BY event_type"
    )


def downgrade() -> None:
    for table in _TABLES:
        op.drop_table(table)
