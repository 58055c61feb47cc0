"""Numbers of users, and which of them were seen on a closed day."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ANY = "empty: any type"


def upgrade() -> None:
    text, moment = sa.Text(), sa.DateTime(timezone=True)
    op.create_table(
        "analytics_seals",
        sa.Column("kind", text, primary_key=True, comment="users, past or events"),
        sa.Column("date", sa.Date, primary_key=True),
        sa.Column(
            "token", sa.Uuid, nullable=False, comment="of the sealing that may set sealed_at"
        ),
        sa.Column("sealed_at", moment, comment="NULL while the sealing is under way"),
    )
    op.create_table(
        "analytics_user_numbers",
        sa.Column("number", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("user_id", text, nullable=False, unique=True),
    )
    op.create_table(
        "analytics_anonymous_daily",
        sa.Column("date", sa.Date, primary_key=True),
        sa.Column("event_type", text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, comment="of a person who was erased"),
    )
    op.create_table(
        "analytics_day_users",
        sa.Column("date", sa.Date, primary_key=True),
        sa.Column("event_type", text, primary_key=True, comment=_ANY),
        sa.Column(
            "users",
            sa.LargeBinary,
            nullable=False,
            comment="numbers of those seen on the day, a roaring bitmap",
        ),
        sa.Column("count", sa.Integer, nullable=False, comment="how many"),
    )
    op.create_table(
        "analytics_past_users",
        sa.Column("month", sa.Date, primary_key=True),
        sa.Column("event_type", text, primary_key=True, comment=_ANY),
        sa.Column(
            "users",
            sa.LargeBinary,
            nullable=False,
            comment="numbers of those seen before the month, a roaring bitmap",
        ),
    )
    for table in ("analytics_day_users", "analytics_past_users"):
        # A bitmap has little left that Postgres could compress.
        op.execute(f"ALTER TABLE {table} ALTER COLUMN users SET STORAGE EXTERNAL")


def downgrade() -> None:
    for table in (
        "analytics_past_users",
        "analytics_day_users",
        "analytics_anonymous_daily",
        "analytics_user_numbers",
        "analytics_seals",
    ):
        op.drop_table(table)
