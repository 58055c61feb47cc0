"""Event types and properties of events, as the archive has seen them.

Of a type that was counted before, what was archived until now is left out: `since` says so. An
archive worker of the version before can enter no entry after this; what it has read is archived by
the next run of this version.
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
    op.add_column(
        "archived_entries",
        sa.Column(
            "form",
            sa.Integer,
            nullable=False,
            server_default="1",
            comment="2: entered in the catalogue",
        ),
    )
    op.alter_column("archived_entries", "form", server_default=None)


def downgrade() -> None:
    op.drop_column("archived_entries", "form")
    for table in _TABLES:
        op.drop_table(table)
