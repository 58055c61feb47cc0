"""Quarter hours, sums and distributions.

A flush of the version before cannot enter a batch after this: it would leave out what it does not
know of. What it has claimed is stored by the next flush of this version.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from pipeline.postgres.tables import FILL_FACTOR

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_PARTS = "of a sum: count, not_numbers, or e and a power of ten"


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
    filled = name
    if partitioned:
        filled = f"{name}_default"
        op.execute(f"CREATE TABLE {filled} PARTITION OF {name} DEFAULT")
    op.execute(f"ALTER TABLE {filled} SET (fillfactor = {FILL_FACTOR})")


def _key(name: str, kind: sa.types.TypeEngine[Any], comment: str | None = None) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=True, comment=comment)


def upgrade() -> None:
    text, moment, day = sa.Text(), sa.DateTime(timezone=True), sa.Date()
    _counter_table("analytics_quarter_hourly", _key("event_type", text), _key("quarter", moment))
    _counter_table(
        "analytics_sums",
        *(_key("event_type", text), _key("property", text), _key("quarter", moment)),
        _key("part", text, _PARTS),
    )
    _counter_table(
        "analytics_value_sums",
        *(_key("date", day), _key("event_type", text), _key("property", text)),
        *(_key("by_property", text), _key("value", text), _key("part", text, _PARTS)),
        partitioned=True,
    )
    _counter_table(
        "analytics_distributions",
        *(_key("event_type", text), _key("property", text), _key("date", day)),
        sa.Column(
            "bin",
            sa.Integer,
            primary_key=True,
            autoincrement=False,
            comment="see pipeline/event/scale.py",
        ),
    )
    op.add_column(
        "flush_batches",
        sa.Column(
            "form",
            sa.Integer,
            nullable=False,
            server_default="1",
            comment="of the batch: 2 has measures",
        ),
    )
    op.alter_column("flush_batches", "form", server_default=None)


def downgrade() -> None:
    op.drop_column("flush_batches", "form")
    for table in (
        "analytics_distributions",
        "analytics_value_sums",
        "analytics_sums",
        "analytics_quarter_hourly",
    ):
        op.drop_table(table)
