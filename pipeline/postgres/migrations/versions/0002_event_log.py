"""The archive of raw events, its ledger, gaps of the event log, and what was pruned."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_KINDS = "event, message or counter"
_KINDS_NOW = "event, message, counter or entry"


def upgrade() -> None:
    text, moment = sa.Text(), sa.DateTime(timezone=True)
    op.create_table(
        "event_log_gaps",
        sa.Column("event_type", text, primary_key=True),
        sa.Column("reason", text, primary_key=True, comment="off or full"),
        sa.Column("hour", moment, primary_key=True, comment="of the events"),
        sa.Column("count", sa.BigInteger, nullable=False, comment="events counted and not logged"),
        sa.Column(
            "noted_at",
            moment,
            nullable=False,
            server_default=sa.func.now(),
            comment="when the first of them were stored",
        ),
        sa.Column("updated_at", moment, nullable=False, server_default=sa.func.now()),
    )
    op.create_table(
        "events",
        sa.Column("event_type", text, nullable=False),
        sa.Column("timestamp", moment, nullable=False),
        sa.Column("user_id", text),
        sa.Column(
            "properties", sa.JSON, comment="the text as it came: no number or escape is refused"
        ),
        sa.Column("event_id", text),
        postgresql_partition_by="RANGE (timestamp)",
    )
    op.execute("CREATE TABLE events_default PARTITION OF events DEFAULT")
    op.create_index("ix_events_timestamp", "events", ["timestamp"])
    op.create_index("ix_events_event_type", "events", ["event_type", "timestamp"])
    op.create_index(
        "ix_events_user_id",
        "events",
        ["user_id", "timestamp"],
        postgresql_where=sa.text("user_id IS NOT NULL"),
    )
    op.create_table(
        "archived_entries",
        sa.Column(
            "name", sa.Uuid, primary_key=True, comment="the ledger: what is here is archived"
        ),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("entry_id", text, nullable=False, comment="its id in the stream"),
        sa.Column("events", sa.Integer, nullable=False),
        sa.Column("archived_at", moment, nullable=False),
    )
    op.create_index("ix_archived_entries_archived_at", "archived_entries", ["archived_at"])
    op.create_table(
        "pruned",
        sa.Column("table_name", text, primary_key=True),
        sa.Column("before", sa.Date, nullable=False, comment="all earlier days have been dropped"),
    )
    op.alter_column("dead_letters", "kind", comment=_KINDS_NOW, existing_comment=_KINDS)


def downgrade() -> None:
    op.alter_column("dead_letters", "kind", comment=_KINDS, existing_comment=_KINDS_NOW)
    for table in ("pruned", "archived_entries", "events", "event_log_gaps"):
        op.drop_table(table)
