"""The tables of what viewers of the dashboard share: annotations and saved views."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, Identity, Table, Text, UniqueConstraint

from pipeline.postgres.tables import metadata

annotated = Table(
    "analytics_annotations",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, comment="what the note is about"),
    Column("text", Text, nullable=False),
    Column("changed_by", Text, nullable=False, comment="id of the read token"),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("at", "text"),
)

saved_views = Table(
    "analytics_saved_views",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("url", Text, nullable=False, comment="path and query of a page of the dashboard"),
    Column("changed_by", Text, nullable=False, comment="id of the read token"),
    Column("changed_at", DateTime(timezone=True), nullable=False),
)
