"""What viewers of the dashboard share: annotations and saved views."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    text, moment = sa.Text(), sa.DateTime(timezone=True)
    op.create_table(
        "analytics_annotations",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("at", moment, nullable=False, comment="what the note is about"),
        sa.Column("text", text, nullable=False),
        sa.Column("changed_by", text, nullable=False, comment="id of the read token"),
        sa.Column("changed_at", moment, nullable=False),
        sa.UniqueConstraint("at", "text"),
    )
    op.create_table(
        "analytics_saved_views",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("name", text, nullable=False, unique=True),
        sa.Column("url", text, nullable=False, comment="path and query of a page of the dashboard"),
        sa.Column("changed_by", text, nullable=False, comment="id of the read token"),
        sa.Column("changed_at", moment, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("analytics_saved_views")
    op.drop_table("analytics_annotations")
