"""Room in the pages of the counter tables, so that a flush which adds to rows that exist can keep
them in their pages and need not touch an index. Pages that are full stay so."""

import sqlalchemy as sa
from alembic import op

from pipeline.postgres.tables import FILL_FACTOR

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_PLAIN = ("analytics_daily", "analytics_hourly")
_PARTITIONED = ("analytics_user_daily", "analytics_dimension_daily")
_PARTITIONS = sa.text(
    "SELECT CAST(CAST(inhrelid AS regclass) AS TEXT) FROM pg_inherits "
    "WHERE inhparent = CAST(:parent AS regclass)"
)


def _tables() -> list[str]:
    connection = op.get_bind()
    found = [connection.execute(_PARTITIONS, {"parent": parent}) for parent in _PARTITIONED]
    return [*_PLAIN, *(name for rows in found for name in rows.scalars())]


def upgrade() -> None:
    for table in _tables():
        op.execute(f"ALTER TABLE {table} SET (fillfactor = {FILL_FACTOR})")


def downgrade() -> None:
    for table in _tables():
        op.execute(f"ALTER TABLE {table} RESET (fillfactor)")
