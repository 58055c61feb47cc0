"""Counters, the ledger of flushes, dead letters."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _counter_table(name: str, *key: sa.Column[Any], partitioned: bool = False) -> None:
    op.create_table(
        name,
        *key,
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column(
            "updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        postgresql_partition_by="RANGE (date)" if partitioned else None,
    )
    if partitioned:
        op.execute(f"CREATE TABLE {name}_default PARTITION OF {name} DEFAULT")


def _key(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=True)


def upgrade() -> None:
    day, text = sa.Date(), sa.Text()
    _counter_table("analytics_daily", _key("event_type", text), _key("date", day))
    _counter_table(
        "analytics_hourly",
        _key("event_type", text),
        _key("hour", sa.DateTime(timezone=True)),
    )
    _counter_table(
        "analytics_user_daily",
        _key("date", day),
        _key("event_type", text),
        _key("user_id", text),
        partitioned=True,
    )
    op.create_index("ix_analytics_user_daily_user_id", "analytics_user_daily", ["user_id"])
    _counter_table(
        "analytics_dimension_daily",
        _key("date", day),
        _key("event_type", text),
        _key("property", text),
        _key("value", text),
        partitioned=True,
    )
    op.create_table(
        "flush_batches",
        sa.Column(
            "batch_id",
            text,
            primary_key=True,
            comment="the ledger: what is here is stored",
        ),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("claim", sa.BigInteger, nullable=False, comment="Redis's number of the claim"),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index(
        "ix_flush_batches_epoch_claim", "flush_batches", ["epoch", "claim"], unique=True
    )
    op.create_index("ix_flush_batches_stored_at", "flush_batches", ["stored_at"])
    op.create_table(
        "dead_letters",
        sa.Column("id", text, primary_key=True),
        sa.Column("kind", text, nullable=False, comment="event, message or counter"),
        sa.Column("body", sa.LargeBinary, nullable=False, comment="as it came"),
        sa.Column("reason", text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("replayed_at", sa.DateTime(timezone=True)),
    )


def downgrade() -> None:
    for table in (
        "dead_letters",
        "flush_batches",
        "analytics_dimension_daily",
        "analytics_user_daily",
        "analytics_hourly",
        "analytics_daily",
    ):
        op.drop_table(table)
